"""Client library, service and simulator together, each the real one."""

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


async def ledger(app, **wanted):
    """The simulator's list of requests."""
    url = app.addresses.provider_url.removesuffix("/v1") + "/sandbox/request-log"
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read())
    entries = json.loads(text)["requests"]
    return [entry for entry in entries if wanted.items() <= entry.items()]


def without_the_clock(response):
    """An answer less what differs from call to call."""
    copy = service.CompleteResponse()
    copy.CopyFrom(response)
    copy.ClearField("id")
    copy.ClearField("create_time")
    copy.usage.ClearField("timings")
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
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
async def test_a_stream_folds_into_the_whole_answer(model, fields):
    """The law of the stream, held end to end: both ways of asking give the same answer."""
    messages = [system("Be brief."), user("What do 17 “rivers”\u2028 and 🐟 cost?")]
    async with service_and_client() as (_, client):
        whole = await client.complete(model, messages, **fields)
        async with client.stream(model, messages, **fields) as stream:
            folded = await stream.finish()

    assert without_the_clock(whole) == without_the_clock(folded)
    assert whole.id
    assert "sandbox" == dict(stream.info.metadata)["x-upstream"]


@pytest.mark.parametrize(
    "model", [PLAIN, MODEL, "moonshotai/Kimi-K3", "sandbox/flicker", "sandbox/trailing-usage"]
)
@pytest.mark.parametrize("fields", [{}, {"n": 2}, {"tools": [WEATHER]}], ids=["plain", "n=2", "tools"])
async def test_a_long_answer_read_as_a_stream_is_the_same_answer(model, fields):
    """Complete may fold a stream inside: the caller cannot tell."""
    question = "What is the weather in Bern?"
    async with (
        service_and_client() as (_, client),
        service_and_client(stream_upstream_min_tokens=0) as (app, folding),
    ):
        whole = await client.complete(model, question, max_tokens=50, **fields)
        folded = await folding.complete(model, question, max_tokens=50, **fields)
        entries = await ledger(app, model=model)

    assert without_the_clock(whole) == without_the_clock(folded)
    assert whole.usage.timings.HasField("total_ms") == folded.usage.timings.HasField("total_ms")
    assert [True] == [entry["stream"] for entry in entries]


async def test_log_probabilities_and_the_prompt_are_never_asked_for_as_a_stream():
    """A stream would lose them."""
    async with service_and_client(stream_upstream_min_tokens=0) as (app, client):
        await client.complete(PLAIN, "echo: hi", logprobs=1)
        await client.complete(PLAIN, "echo: hi", echo=True)
        entries = await ledger(app, model=PLAIN)

    assert [False, False] == [entry["stream"] for entry in entries]


async def test_a_long_answer_has_the_patience_of_a_stream():
    """The limit on a whole answer does not end one that keeps coming; silence does."""
    async with service_and_client(
        response_timeout_s=0.2,
        stream_idle_timeout_s=0.3,
        stream_upstream_min_tokens=0,
        sandbox_tokens_per_second=40,
    ) as (_, client):
        answer = await client.complete(PLAIN, "echo: " + "word " * 20)
        with pytest.raises(DeadlineExceededError) as caught:
            await client.complete("sandbox/stall-after-3", "Hello!")

    assert "STREAM_IDLE_TIMEOUT" == caught.value.reason
    assert text_of(answer)


async def test_text_of_every_kind_arrives_as_it_was_sent():
    """Line separators, astral characters and quotes survive both directions."""
    text = 'a\u2028b\u0085c "quoted" \\ 🐟 \u0000-less\ttab\nline'.replace("\u0000", "")
    async with service_and_client() as (_, client):
        whole = await client.complete(PLAIN, f"echo: {text}")
        async with client.stream(PLAIN, f"echo: {text}") as stream:
            pieces = [piece async for piece in stream.text()]

    assert text == text_of(whole) == "".join(pieces)


async def test_a_tool_is_called_and_its_result_used():
    """An assistant's turn is appended as it came, the tool answers, the model goes on."""
    conversation = [developer("Use tools."), user("What is the weather in Bern?")]
    async with service_and_client() as (_, client):
        asked = await client.complete(PLAIN, conversation, tools=[WEATHER])
        (choice,) = asked.choices
        (call,) = choice.message.tool_calls
        conversation += [choice.message, tool_result(call.id, "17 degrees and rain")]
        told = await client.complete(PLAIN, conversation, tools=[WEATHER])

    assert chat.FINISH_REASON_TOOL_CALLS == choice.finish_reason
    assert ("get_weather", ["city"]) == (call.function.name, list(json.loads(call.function.arguments)))
    assert "17 degrees" in text_of(told)


async def test_log_probabilities_and_the_prompt_come_back():
    """`logprobs` and `echo` give what they promise."""
    async with service_and_client() as (_, client):
        answer = await client.complete(PLAIN, "echo: one two", logprobs=2, echo=True)

    tokens = answer.choices[0].logprobs.tokens
    assert "one two" == "".join(token.token for token in tokens)
    assert {2} == {len(token.top) for token in tokens}
    assert all(token.logprob <= 0 for token in tokens)
    assert "echo: one two" in answer.prompt[0].text


async def test_a_picture_travels():
    """Bytes become a data URL that the provider takes."""
    async with service_and_client() as (_, client):
        answer = await client.complete(
            PLAIN, [user("What is this?", image(b"\x89PNG", media_type="image/png"))]
        )

    assert text_of(answer)


async def test_a_fallback_answers_for_a_model_that_does_not():
    """The first model that can answers; both attempts are counted, and the answer says who served."""
    fallbacks = ["sandbox/error-503", PLAIN]
    async with service_and_client() as (_, client):
        whole = await client.complete("sandbox/error-404", "echo: hi", fallback_models=fallbacks)
        async with client.stream("sandbox/error-404", "echo: hi", fallback_models=fallbacks) as stream:
            folded = await stream.finish()

    for answer in (whole, folded):
        assert (PLAIN, "hi", 3) == (answer.model, text_of(answer), answer.attempts)


async def test_cost_is_counted_by_the_catalogues_price():
    """0.15 and 0.60 USD for a million tokens, exact to the nano-dollar."""
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
async def test_a_failure_is_an_exception_of_its_kind(model, error, reason):
    """What the provider did is a class and a reason in the caller's language."""
    async with service_and_client() as (_, client):
        with pytest.raises(error) as caught:
            await client.complete(model, "Hello!")

    assert reason == caught.value.reason
    assert caught.value.request_id


@pytest.mark.parametrize("model", ["sandbox/cut-stream", "sandbox/cut-stream-clean"])
async def test_a_cut_stream_raises_and_keeps_what_came(model):
    """A part of an answer never looks like a whole one."""
    async with service_and_client() as (_, client), client.stream(model, "echo: a b c d e f") as stream:
        with pytest.raises(UnavailableError) as caught:
            await stream.finish()

    assert "UPSTREAM_TRUNCATED" == caught.value.reason
    assert text_of(caught.value.partial)
    assert not stream.whole


async def test_a_stall_ends_with_the_callers_deadline():
    """The caller's deadline ends a stream that fell silent, with its part kept."""
    async with service_and_client() as (app, client):
        async with client.stream("sandbox/stall-after-3", "Hello!", timeout_s=0.5) as stream:
            with pytest.raises(DeadlineExceededError) as caught:
                await stream.finish()
        await closed_by_the_client(app, "sandbox/stall-after-3")

    assert ("CALLER_DEADLINE", True) == (caught.value.reason, bool(text_of(caught.value.partial)))


async def test_leaving_a_stream_stops_the_provider():
    """The simulator's ledger shows that generation ended when the caller left."""
    async with service_and_client(sandbox_tokens_per_second=20) as (app, client):
        async with client.stream(PLAIN, "echo: " + "word " * 500) as stream:
            await anext(stream.text())
        entry = await closed_by_the_client(app, PLAIN)

    assert entry["tokens_sent"] < 100


async def closed_by_the_client(app, model):
    """The ledger's entry, once it shows that the service has hung up."""
    async with asyncio.timeout(20):
        while not (found := await ledger(app, model=model, ended="client_closed")):  # noqa: ASYNC110  asked over HTTP
            await asyncio.sleep(0.02)
    return found[0]


async def test_models_are_listed_page_by_page():
    """The catalogue and the provider's list, filtered and in order."""
    async with service_and_client() as (_, client):
        everything = [model.id async for model in client.models(page_size=10)]
        cheap = [
            model
            async for model in client.models(max_input_usd_per_million_tokens=0.2, order_by="input_price")
        ]

    assert len(everything) == len(set(everything)) > 60
    assert sorted(everything) == everything
    prices = [model.pricing.input_usd_per_million_tokens for model in cheap]
    assert prices == sorted(prices)
    assert prices[-1] <= 0.2


async def test_health_is_asked_by_the_client():
    """A serving service says so."""
    async with service_and_client() as (_, client):
        assert ServingStatus.SERVING is await client.health()
