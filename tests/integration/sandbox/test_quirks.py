"""What is particular to Together, acted by the sandbox."""

import json

import pytest

HELLO = [{"role": "user", "content": "echo: one two three"}]
BRIEFED = [{"role": "system", "content": "A long briefing, word by word."}, *HELLO]
DEBUG = {
    "x-together-traceid",
    "x-cluster",
    "x-engine-pod",
    "x-api-received",
    "x-api-call-start",
    "x-api-call-end",
    "x-inference-version",
}


async def complete(client, model, *, messages=HELLO, headers=None, **fields):
    body = {"model": model, "messages": messages, **fields}
    return await client.post("/chat/completions", json=body, headers=headers)


async def test_a_streaming_only_model_rejects_a_unary_request(client):
    """The error has the code `streaming_required`; a stream is an ordinary one."""
    unary = await complete(client, "sandbox/streaming-only")
    stream = await complete(client, "sandbox/streaming-only", stream=True)

    assert (400, "streaming_required") == (unary.status_code, unary.json()["error"]["code"])
    assert 200 == stream.status_code
    assert stream.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stopped_endpoint_is_a_400(client, stream):
    """Only the code tells it from an invalid request."""
    reply = await complete(client, "sandbox/error-400-stopped", stream=stream)

    assert (400, "dedicated_endpoint_not_running") == (reply.status_code, reply.json()["error"]["code"])


async def test_an_endpoint_starts_again(client):
    """The failure passes by itself, after N requests."""
    replies = [await complete(client, "sandbox/error-400-stopped-x2") for _ in range(3)]

    assert [400, 400, 200] == [reply.status_code for reply in replies]


async def test_the_serverless_list_has_fewer_models(client):
    """A listed model that is not in it cannot be called."""
    every = {entry["id"] for entry in (await client.get("/models")).json()}
    serverless = {
        entry["id"] for entry in (await client.get("/models", params={"serverless": "true"})).json()
    }
    reply = await complete(client, "sandbox/not-serverless")

    assert {"sandbox/not-serverless"} == every - serverless
    assert serverless < every
    assert (400, "model_not_available") == (reply.status_code, reply.json()["error"]["code"])


@pytest.mark.parametrize(
    ("first", "second", "hit"),
    [
        ({"prompt_cache_key": "a"}, {"prompt_cache_key": "a"}, True),
        ({"prompt_cache_key": "a"}, {"prompt_cache_key": "b"}, False),
        ({"user": "u"}, {"user": "u"}, True),
        ({"prompt_cache_key": "a", "user": "u"}, {"prompt_cache_key": "b", "user": "u"}, False),
        ({}, {}, False),
    ],
)
async def test_the_prompt_cache_is_found_by_its_key(client, first, second, hit):
    """`prompt_cache_key` comes before `user`."""
    cached = []
    for fields in (first, second):
        reply = await complete(client, "sandbox/prompt-cache", messages=BRIEFED, **fields)
        cached.append(reply.json()["usage"]["cached_tokens"])

    assert 0 == cached[0]
    assert hit == bool(cached[1])


@pytest.mark.parametrize(("model", "reasons"), [("openai/gpt-oss-120b", True), ("zai-org/GLM-5.2", False)])
async def test_gpt_oss_cannot_switch_reasoning_off(client, model, reasons):
    """The switch is ignored without an error, as an unknown effort is by every model."""
    off = await complete(client, model, reasoning={"enabled": False}, reasoning_effort="banana")

    assert 200 == off.status_code
    assert reasons == bool(off.json()["choices"][0]["message"].get("reasoning"))


@pytest.mark.parametrize("stream", [False, True])
async def test_debug_headers_are_sent_on_request(client, stream):
    """Without the request's header there are none."""
    plain = await complete(client, "some/model", stream=stream)
    debug = await complete(client, "some/model", stream=stream, headers={"x-together-debug": "1"})

    assert DEBUG.isdisjoint(plain.headers)
    assert DEBUG <= set(debug.headers)


async def test_reasoning_can_use_up_the_tokens(client):
    """The finish reason is `length`, and the text is empty."""
    reply = await complete(client, "sandbox/reasoning", max_tokens=2)
    [choice] = json.loads(reply.content)["choices"]

    assert "length" == choice["finish_reason"]
    assert not choice["message"]["content"]
    assert choice["message"]["reasoning"]
