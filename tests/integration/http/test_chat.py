"""Chat completions over HTTP in OpenAI's format, unary and streamed."""

import json

import pytest

from support import openai
from support.app import CANARY_KEY
from support.http_client import TOKEN, request_body, running_http
from support.scripted_upstream import ScriptedUpstream, always, in_turn
from support.upstream_script import Send, chunk, json_response, sse, sse_event, sse_head

COMPLETION = openai.completion("Hello", id="o1", created=7, model="served/model", usage=openai.usage(3, 1))
STREAM = sse(
    [
        openai.chunk("Hel"),
        openai.chunk("lo"),
        openai.chunk(finish_reason="stop", usage=openai.usage(3, 2)),
        openai.DONE,
    ]
)


async def test_a_unary_completion_has_openais_format():
    """The provider receives the translated request."""
    async with (
        ScriptedUpstream(always(json_response(200, COMPLETION))) as upstream,
        running_http(upstream.base_url) as service,
    ):
        response = await service.complete(temperature=0, max_completion_tokens=9)

    assert {
        "id": "o1",
        "object": "chat.completion",
        "created": 7,
        "model": "served/model",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    } == response.json()
    (sent,) = upstream.request_log.requests
    assert request_body(temperature=0, max_tokens=9) == json.loads(sent.body)


async def test_a_stream_has_openais_format():
    """The role comes first, a choice finishes once, `[DONE]` is last, and usage was not requested."""
    async with ScriptedUpstream(always(STREAM)) as upstream, running_http(upstream.base_url) as service:
        *chunks, done = await service.events()

    assert "[DONE]" == done
    assert {"chat.completion.chunk"} == {chunk["object"] for chunk in chunks}
    assert "Hello" == "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert ["assistant"] == [
        chunk["choices"][0]["delta"]["role"] for chunk in chunks if "role" in chunk["choices"][0]["delta"]
    ]
    assert "role" in chunks[0]["choices"][0]["delta"]
    finishes = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert ["stop"] == [reason for reason in finishes if reason]
    assert not any("usage" in chunk for chunk in chunks)


async def test_requested_usage_comes_in_a_last_chunk():
    """In the chunks before it, usage is null, as in OpenAI's."""
    async with ScriptedUpstream(always(STREAM)) as upstream, running_http(upstream.base_url) as service:
        *chunks, last, done = await service.events(stream_options={"include_usage": True})

    assert {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5} == last["usage"]
    assert ([], "[DONE]") == (last["choices"], done)
    assert {None} == {chunk["usage"] for chunk in chunks}


PRICED = "openai/gpt-oss-120b"


@pytest.mark.parametrize(("model", "expected"), [(PRICED, {"cost": 4.5e-07}), ("no/price", {})])
async def test_usage_has_the_cost_if_the_price_is_known(model, expected):
    """Three tokens cost 0.15 USD per million, in a unary completion and in a stream's last chunk."""
    counts = {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}
    unary = json_response(200, {**COMPLETION, "usage": counts})
    streamed = sse([openai.chunk(finish_reason="stop", usage=counts), openai.DONE])
    async with (
        ScriptedUpstream(in_turn(unary, streamed)) as upstream,
        running_http(upstream.base_url) as service,
    ):
        completion = (await service.complete(model=model)).json()
        *_, last, _ = await service.events(model=model, stream_options={"include_usage": True})

    assert {**counts, **expected} == completion["usage"] == last["usage"]


async def test_the_events_of_one_read_are_one_write():
    """Three events that arrive together are sent as one HTTP chunk."""
    together = (Send(sse_head() + b"".join(sse_event(openai.chunk(text)) for text in "abc")),)
    end = (Send(sse_event(openai.chunk(finish_reason="stop"))),)
    ended = (Send(sse_event(openai.DONE) + chunk(b"")),)
    async with (
        ScriptedUpstream(always(together + end + ended)) as upstream,
        running_http(upstream.base_url) as service,
    ):
        events = await service.events()

    assert "abc" == "".join(event["choices"][0]["delta"].get("content", "") for event in events[:-1])
    (record,) = service.records()
    assert record["messages_sent"] < 6


async def test_the_headers_of_a_stream_prevent_buffering_by_proxies():
    """The content type is that of server-sent events."""
    async with ScriptedUpstream(always(STREAM)) as upstream, running_http(upstream.base_url) as service:
        response = await service.complete(stream=True)

    assert "text/event-stream; charset=utf-8" == response.headers["content-type"]
    assert "no-cache, no-transform" == response.headers["cache-control"]
    assert "no" == response.headers["x-accel-buffering"]


async def test_ignored_members_are_named():
    """Members without a meaning for Together are accepted, and named in a header."""
    message = {"role": "user", "content": "Hi", "cache_control": {"type": "ephemeral"}}
    async with (
        ScriptedUpstream(always(json_response(200, COMPLETION))) as upstream,
        running_http(upstream.base_url) as service,
    ):
        response = await service.complete(user="me", store=True, metadata={"a": "b"}, messages=[message])
        plain = await service.complete()

    names = response.headers["x-togetherchat-ignored"].split(", ")
    assert {"user", "store", "metadata", "messages[].cache_control"} == set(names)
    assert "x-togetherchat-ignored" not in plain.headers
    assert {"model", "messages"} == set(json.loads(upstream.request_log.requests[0].body))


async def test_unknown_members_are_passed_through():
    """A member that this service does not know reaches the provider unchanged."""
    async with (
        ScriptedUpstream(always(json_response(200, COMPLETION))) as upstream,
        running_http(upstream.base_url) as service,
    ):
        await service.complete(unknown_switch=False, new_thing={"b": 1.0, "a": 2**70})

    body = upstream.request_log.requests[0].body
    assert b'"new_thing":{"b":1.0,"a":1180591620717411303424}' in body
    assert b'"unknown_switch":false' in body


@pytest.mark.parametrize(
    ("mode", "expected"), [("server", CANARY_KEY), ("caller", TOKEN), ("caller-then-server", TOKEN)]
)
async def test_the_upstream_key_follows_the_mode(mode, expected):
    """`Authorization` is used if callers may bring their keys."""
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with (
        ScriptedUpstream(always(json_response(200, COMPLETION))) as upstream,
        running_http(upstream.base_url, headers=headers, upstream_credentials=mode) as service,
    ):
        assert 200 == (await service.complete()).status_code

    assert f"Bearer {expected}" == upstream.request_log.requests[0].headers["authorization"]


async def test_a_call_writes_a_call_record():
    """The record is the same as for gRPC, with the protocol `http`."""
    async with (
        ScriptedUpstream(always(json_response(200, COMPLETION))) as upstream,
        running_http(upstream.base_url, headers={"x-request-id": "mine"}) as service,
    ):
        response = await service.complete()

    (record,) = service.records()
    assert ("http", "chat.completions", "OK", "mine") == tuple(
        record[name] for name in ("protocol", "method", "code", "id")
    )
    assert ("mine", 3, 1) == (
        response.headers["x-request-id"],
        record["prompt_tokens"],
        record["completion_tokens"],
    )


async def test_the_paths_also_work_without_their_prefix():
    """Some clients use a base URL without `/v1`."""
    async with (
        ScriptedUpstream(always(json_response(200, COMPLETION))) as upstream,
        running_http(upstream.base_url) as service,
    ):
        assert 200 == (await service.client.post("/chat/completions", json=request_body())).status_code


async def test_the_models_are_a_list_object():
    """Entries have OpenAI's four members and more; Together's client gets a bare array."""
    async with running_http() as service:
        listed = (await service.client.get("/v1/models")).json()
        bare = (
            await service.client.get("/v1/models", headers={"user-agent": "Together/Python 3.1.1"})
        ).json()
        one = (await service.client.get(f"/v1/models/{listed['data'][0]['id']}")).json()

    assert "list" == listed["object"]
    assert listed["data"] == bare
    assert one == listed["data"][0]
    assert all({"id", "object", "created", "owned_by"} <= model.keys() for model in bare)
    assert {"model"} == {model["object"] for model in bare}


@pytest.mark.parametrize(
    "model",
    [
        "togethercomputer/llama-2-7b-chat",
        "togethercomputer/llama-2-13b-chat",
        "togethercomputer/llama-2-70b-chat",
        "mistralai/Mixtral-8x7B-Instruct-v0.1",
        "codellama/CodeLlama-34b-Instruct-hf",
        "stabilityai/stablelm-base-alpha-7b",
        "zero-one-ai/Yi-34B-Chat",
        "Qwen/Qwen2.5-72B-Instruct-Turbo",
    ],
)
async def test_every_family_of_the_brief_can_be_called(model):
    """The catalog may list the model, list it as retired, or not know it."""
    async with (
        ScriptedUpstream(always(json_response(200, {**COMPLETION, "model": model}))) as upstream,
        running_http(upstream.base_url) as service,
    ):
        response = await service.complete(model=model)

    assert (200, model) == (response.status_code, response.json()["model"])
    assert model == json.loads(upstream.request_log.requests[0].body)["model"]


REJECTION = openai.error("Slow down.", type="rate_limit")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [200, 429])
async def test_every_response_has_the_rate_limit_headers(status, stream):
    """A caller can watch its remaining quota, and slow down in time."""
    limits = {"x-ratelimit-limit": "60", "x-ratelimit-remaining": "41", "x-tokenlimit-remaining": "7000"}
    response = json_response(status, REJECTION if status == 429 else COMPLETION, limits)
    if stream and status == 200:
        response = (Send(sse_head(headers=limits)), *STREAM[1:])
    async with ScriptedUpstream(always(response)) as upstream, running_http(upstream.base_url) as service:
        response = await service.complete(stream=stream)

    assert status == response.status_code
    assert limits == {name: response.headers.get(name) for name in limits}


async def test_a_fallback_serves_if_the_model_does_not():
    """`model` is the one that served, and the cost is computed from its price."""
    rejected = json_response(404, openai.error("No.", code="model_not_available"))
    response = json_response(200, {**COMPLETION, "model": PRICED})
    async with (
        ScriptedUpstream(in_turn(rejected, response)) as upstream,
        running_http(upstream.base_url) as service,
    ):
        response = await service.complete(model="gone/model", fallback_models=[PRICED])

    assert [b"gone/model" in sent.body for sent in upstream.request_log.requests] == [True, False]
    assert PRICED == response.json()["model"]
    assert response.json()["usage"]["cost"] > 0


async def test_the_provider_headers_are_passed_on():
    """These are the rate limits and the provider's request id."""
    response = json_response(200, COMPLETION, {"x-ratelimit-remaining": "41", "x-request-id": "theirs"})
    async with ScriptedUpstream(always(response)) as upstream, running_http(upstream.base_url) as service:
        response = await service.complete()

    assert ("41", "o1", "together") == tuple(
        response.headers[name] for name in ("x-ratelimit-remaining", "x-upstream-request-id", "x-upstream")
    )
