"""The real client library, service and sandbox together."""

import asyncio
import json
import urllib.request
from contextlib import asynccontextmanager

import pytest

from support.app import running_app
from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_client import (
    DeadlineExceededError,
    InternalError,
    ModelNotFoundError,
    RateLimitedError,
    ServingStatus,
    SpendLimitError,
    UnavailableError,
    connect_async,
    developer,
    function_tool,
    image,
    json_schema,
    system,
    text_of,
    tool_result,
    user,
)

MODEL = "openai/gpt-oss-120b"
PLAIN = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
WEATHER = function_tool(
    "get_weather", "The weather of a city",
    parameters='{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}',
)  # fmt: skip


@asynccontextmanager
async def service_and_client(**settings):
    async with (
        running_app(**{"sandbox_tokens_per_second": 0, **settings}) as app,
        connect_async(app.addresses.grpc, retries=False) as client,
    ):
        yield app, client


async def request_log(app, **wanted):
    """Return the entries of the sandbox's request log that match."""
    url = app.addresses.provider_url.removesuffix("/v1") + "/sandbox/request-log"
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read())
    entries = json.loads(text)["requests"]
    return [entry for entry in entries if wanted.items() <= entry.items()]


def without_times(response):
    """Return a completion without what differs between calls."""
    copy = service.CompleteResponse()
    copy.CopyFrom(response)
    copy.ClearField("id")
    copy.ClearField("create_time")
    copy.ClearField("timings")
    return copy


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (PLAIN, {}),
        (MODEL, {}),
        ("moonshotai/Kimi-K3", {}),
        (PLAIN, {"n": 3, "seed": 7}),
        (PLAIN, {"tools": [WEATHER], "tool_choice": chat.ToolChoice(mode=chat.TOOL_CHOICE_MODE_REQUIRED)}),
        (
            PLAIN,
            {
                "response_format": json_schema(
                    "city", {"type": "object", "properties": {"n": {"type": "integer"}}}
                )
            },
        ),
        (PLAIN, {"max_tokens": 4}),
        ("sandbox/trailing-usage", {}),
        ("sandbox/flicker", {}),
        ("sandbox/keepalive", {}),
        *(
            (f"sandbox/{name}", {})
            for name in (
                "comments",
                "late-head",
                "split-character",
                "shared-index",
                "shifted-index",
            )
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
async def test_a_stream_accumulates_to_the_unary_completion(model, fields):
    """The stream guarantees hold end to end: both kinds of call give the same completion."""
    messages = [system("Be brief."), user("What do 17 “rivers”\u2028 and 🐟 cost?")]
    async with service_and_client() as (_, client):
        unary = await client.complete(model, messages, **fields)
        async with client.stream(model, messages, **fields) as stream:
            streamed = await stream.finish()

    assert without_times(unary) == without_times(streamed)
    assert unary.id
    assert unary.timings.total_duration.ToMicroseconds() > 0
    assert not unary.timings.HasField("first_token_duration")
    first, total = streamed.timings.first_token_duration, streamed.timings.total_duration
    assert 0 < first.ToMicroseconds() <= total.ToMicroseconds()
    assert "sandbox" == dict(stream.info.metadata)["x-upstream"]


@pytest.mark.parametrize(
    "model",
    [
        PLAIN,
        MODEL,
        "moonshotai/Kimi-K3",
        "sandbox/flicker",
        "sandbox/trailing-usage",
        "sandbox/shared-index",
        "sandbox/shifted-index",
        "sandbox/split-character",
    ],
)
@pytest.mark.parametrize("fields", [{}, {"n": 2}, {"tools": [WEATHER]}], ids=["plain", "n=2", "tools"])
async def test_a_long_completion_read_as_a_stream_is_the_same(model, fields):
    """Complete may read a stream from the provider; the caller sees no difference."""
    question = "What is the weather in Bern?"
    async with (
        service_and_client() as (_, client),
        service_and_client(stream_upstream_min_tokens=0) as (app, streaming_client),
    ):
        unary = await client.complete(model, question, max_tokens=50, **fields)
        streamed = await streaming_client.complete(model, question, max_tokens=50, **fields)
        entries = await request_log(app, model=model)

    assert without_times(unary) == without_times(streamed)
    assert unary.timings.HasField("total_duration") == streamed.timings.HasField("total_duration")
    assert [True] == [entry["stream"] for entry in entries]


async def test_log_probabilities_and_the_prompt_are_not_requested_as_a_stream():
    """A stream would lose them."""
    async with service_and_client(stream_upstream_min_tokens=0) as (app, client):
        await client.complete(PLAIN, "echo: hi", logprobs=1)
        await client.complete(PLAIN, "echo: hi", echo=True)
        entries = await request_log(app, model=PLAIN)

    assert [False, False] == [entry["stream"] for entry in entries]


async def test_a_long_completion_has_the_timeouts_of_a_stream():
    """The response timeout does not apply; the stream idle timeout does."""
    async with service_and_client(
        response_timeout_s=0.2,
        stream_idle_timeout_s=0.3,
        stream_upstream_min_tokens=0,
        sandbox_tokens_per_second=40,
    ) as (_, client):
        completion = await client.complete(PLAIN, "echo: " + "word " * 20)
        with pytest.raises(DeadlineExceededError) as caught:
            await client.complete("sandbox/stall-after-3", "Hello!")

    assert "STREAM_IDLE_TIMEOUT" == caught.value.reason
    assert text_of(completion)


async def test_any_text_arrives_unchanged():
    """Line separators, astral characters and quotes survive both directions."""
    text = 'a\u2028b\u0085c "quoted" \\ 🐟 \u0000-less\ttab\nline'.replace("\u0000", "")
    async with service_and_client() as (_, client):
        unary = await client.complete(PLAIN, f"echo: {text}")
        async with client.stream(PLAIN, f"echo: {text}") as stream:
            deltas = [delta async for delta in stream.text()]

    assert text == text_of(unary) == "".join(deltas)


async def test_a_tool_is_called_and_its_result_used():
    """The assistant's message is sent back unchanged with the tool's result, and the model continues."""
    conversation = [developer("Use tools."), user("What is the weather in Bern?")]
    async with service_and_client() as (_, client):
        first = await client.complete(PLAIN, conversation, tools=[WEATHER])
        (choice,) = first.choices
        (call,) = choice.message.tool_calls
        conversation += [choice.message, tool_result(call.id, "17 degrees and rain")]
        final = await client.complete(PLAIN, conversation, tools=[WEATHER])

    assert chat.FINISH_REASON_TOOL_CALLS == choice.finish_reason
    assert ("get_weather", ["city"]) == (call.function.name, list(json.loads(call.function.arguments)))
    assert "17 degrees" in text_of(final)


async def test_log_probabilities_and_the_prompt_are_returned():
    """`logprobs` and `echo` work as documented."""
    async with service_and_client() as (_, client):
        completion = await client.complete(PLAIN, "echo: one two", logprobs=2, echo=True)

    tokens = completion.choices[0].logprobs.tokens
    assert "one two" == "".join(token.token for token in tokens)
    assert {2} == {len(token.top_logprobs) for token in tokens}
    assert all(token.logprob <= 0 for token in tokens)
    assert "echo: one two" in completion.echoed_prompts[0].text


async def test_an_image_is_sent():
    """Bytes become a data URL that the provider accepts."""
    async with service_and_client() as (_, client):
        completion = await client.complete(
            PLAIN, [user("What is this?", image(b"\x89PNG", media_type="image/png"))]
        )

    assert text_of(completion)


async def test_a_fallback_serves_for_a_model_that_fails():
    """All attempts are counted, and the completion names the model that served."""
    fallbacks = ["sandbox/error-503", PLAIN]
    async with service_and_client() as (_, client):
        unary = await client.complete("sandbox/error-404", "echo: hi", fallback_models=fallbacks)
        async with client.stream("sandbox/error-404", "echo: hi", fallback_models=fallbacks) as stream:
            streamed = await stream.finish()

    for completion in (unary, streamed):
        assert (PLAIN, "hi", 3) == (completion.model, text_of(completion), completion.attempts)


async def test_the_cost_is_computed_from_the_catalogs_price():
    """The price is 0.15 and 0.60 USD per million tokens, and the cost is exact to the nano-dollar."""
    async with service_and_client() as (_, client):
        usage = (await client.complete(MODEL, "echo: hi")).usage

    assert usage.prompt_tokens * 150 + usage.completion_tokens * 600 == usage.cost_nano_usd


@pytest.mark.parametrize(
    ("model", "error", "reason"),
    [
        ("sandbox/error-404", ModelNotFoundError, "MODEL_NOT_FOUND"),
        ("sandbox/error-402", SpendLimitError, "SPEND_LIMIT_REACHED"),
        ("sandbox/error-429", RateLimitedError, "RATE_LIMITED_REQUESTS"),
        ("sandbox/error-503", UnavailableError, "UPSTREAM_OVERLOADED"),
        ("sandbox/error-502", UnavailableError, "UPSTREAM_BAD_GATEWAY"),
        ("sandbox/error-500", InternalError, "UPSTREAM_INTERNAL"),
        ("sandbox/malformed-json", InternalError, "UPSTREAM_MALFORMED_RESPONSE"),
        ("sandbox/reset", UnavailableError, "UPSTREAM_RESET"),
    ],
)
async def test_a_failure_is_an_exception_with_its_reason(model, error, reason):
    """Each failure of the provider has its class and reason."""
    async with service_and_client() as (_, client):
        with pytest.raises(error) as caught:
            await client.complete(model, "Hello!")

    assert reason == caught.value.reason
    assert caught.value.request_id


@pytest.mark.parametrize("model", ["sandbox/cut-stream", "sandbox/cut-stream-clean"])
async def test_a_truncated_stream_raises_and_keeps_its_text(model):
    """A partial completion never looks like a complete one."""
    async with service_and_client() as (_, client), client.stream(model, "echo: a b c d e f") as stream:
        with pytest.raises(UnavailableError) as caught:
            await stream.finish()

    assert "UPSTREAM_TRUNCATED" == caught.value.reason
    assert text_of(caught.value.partial)
    assert not stream.whole


async def test_a_stall_ends_with_the_callers_deadline():
    """The deadline ends a stream that has stalled; the partial completion is kept."""
    async with service_and_client() as (app, client):
        async with client.stream("sandbox/stall-after-3", "Hello!", timeout_s=0.5) as stream:
            with pytest.raises(DeadlineExceededError) as caught:
                await stream.finish()
        await closed_by_the_client(app, "sandbox/stall-after-3")

    assert ("CALLER_DEADLINE", True) == (caught.value.reason, bool(text_of(caught.value.partial)))


async def test_leaving_a_stream_stops_the_provider():
    """The sandbox's request log shows that generation ended when the caller left."""
    async with service_and_client(sandbox_tokens_per_second=20) as (app, client):
        async with client.stream(PLAIN, "echo: " + "word " * 500) as stream:
            await anext(stream.text())
        entry = await closed_by_the_client(app, PLAIN)

    assert entry["tokens_sent"] < 100


async def closed_by_the_client(app, model):
    """Wait for the log entry of a request that the service has closed."""
    async with asyncio.timeout(20):
        while not (found := await request_log(app, model=model, ended="client_closed")):  # noqa: ASYNC110  polled over HTTP
            await asyncio.sleep(0.02)
    return found[0]


async def test_models_are_listed_page_by_page():
    """The catalog and the provider's list are merged, filtered and sorted."""
    async with service_and_client() as (_, client):
        default = [model.id async for model in client.models(page_size=10)]
        listed = [model.id async for model in client.models(page_size=10, order_by="id")]
        reverse = [model.id async for model in client.models(page_size=10, order_by="id desc")]
        cheap = [
            model
            async for model in client.models(max_input_usd_per_million_tokens=0.2, order_by="input_price")
        ]

    assert len(listed) == len(set(listed)) > 60
    assert sorted(listed) == listed == reverse[::-1]
    assert set(listed) == set(default)
    prices = [model.pricing.input_usd_per_million_tokens for model in cheap]
    assert prices == sorted(prices)
    assert prices[-1] <= 0.2


async def test_the_client_checks_health():
    """A serving service is SERVING."""
    async with service_and_client() as (_, client):
        assert ServingStatus.SERVING is await client.health()
