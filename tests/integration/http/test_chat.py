"""A conversation over HTTP: the answer in OpenAI's shape, whole and streamed."""

import json

import pytest

from support.app import CANARY_KEY
from support.http_client import TOKEN, ask, running_door
from support.scripted_upstream import ScriptedUpstream, always, in_turn
from support.upstream_script import Send, chunk, json_answer, sse, sse_head

WHOLE = {
    "id": "o1",
    "created": 7,
    "model": "served/model",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}


def piece(text, *, index=0, finish=None, **members):
    choice = {"index": index, "delta": {"role": "assistant", "content": text}, "finish_reason": finish}
    return json.dumps({"id": "o1", "created": 7, "model": "m", "choices": [choice], **members})


STREAM = sse(
    [
        piece("Hel"),
        piece("lo"),
        piece("", finish="stop", usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}),
        "[DONE]",
    ]
)


async def test_a_whole_answer():
    """Members, names and order are OpenAI's; the provider was asked what was asked."""
    async with (
        ScriptedUpstream(always(json_answer(200, WHOLE))) as upstream,
        running_door(upstream.base_url) as door,
    ):
        response = await door.complete(temperature=0, max_completion_tokens=9)

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
    (asked,) = upstream.ledger.requests
    assert ask(temperature=0, max_tokens=9) == json.loads(asked.body)


async def test_a_stream():
    """The role comes first, a choice finishes once, `[DONE]` is last, and nobody asked for usage."""
    async with ScriptedUpstream(always(STREAM)) as upstream, running_door(upstream.base_url) as door:
        *chunks, done = await door.events()

    assert "[DONE]" == done
    assert {"chat.completion.chunk"} == {chunk["object"] for chunk in chunks}
    assert "Hello" == "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert ["assistant"] == [
        chunk["choices"][0]["delta"]["role"] for chunk in chunks if "role" in chunk["choices"][0]["delta"]
    ]
    assert "role" in chunks[0]["choices"][0]["delta"]
    finishes = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert ["stop"] == [word for word in finishes if word]
    assert not any("usage" in chunk for chunk in chunks)


async def test_usage_comes_in_a_last_chunk_where_it_was_asked_for():
    """Before it every chunk says null, as OpenAI's do."""
    async with ScriptedUpstream(always(STREAM)) as upstream, running_door(upstream.base_url) as door:
        *chunks, last, done = await door.events(stream_options={"include_usage": True})

    assert {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5} == last["usage"]
    assert ([], "[DONE]") == (last["choices"], done)
    assert {None} == {chunk["usage"] for chunk in chunks}


PRICED = "openai/gpt-oss-120b"


@pytest.mark.parametrize(("model", "expected"), [(PRICED, {"cost": 4.5e-07}), ("no/price", {})])
async def test_usage_has_the_cost_in_dollars_where_the_price_is_known(model, expected):
    """Three tokens at 0.15 USD a million: whole, and in the stream's last chunk alike."""
    counts = {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}
    whole = json_answer(200, {**WHOLE, "usage": counts})
    streamed = sse([piece("", finish="stop", usage=counts), "[DONE]"])
    async with (
        ScriptedUpstream(in_turn(whole, streamed)) as upstream,
        running_door(upstream.base_url) as door,
    ):
        answered = (await door.complete(model=model)).json()
        *_, last, _ = await door.events(model=model, stream_options={"include_usage": True})

    assert {**counts, **expected} == answered["usage"] == last["usage"]


async def test_what_one_read_brought_is_one_write():
    """Three events of the provider in one piece leave as one chunk of HTTP."""
    together = (
        Send(sse_head() + b"".join(chunk(b"data: %s\n\n" % one.encode()) for one in map(piece, "abc"))),
    )
    end = (Send(chunk(b"data: %s\n\n" % piece("", finish="stop").encode())),)
    ended = (Send(chunk(b"data: [DONE]\n\n") + chunk(b"")),)
    async with (
        ScriptedUpstream(always(together + end + ended)) as upstream,
        running_door(upstream.base_url) as door,
    ):
        events = await door.events()

    assert "abc" == "".join(event["choices"][0]["delta"].get("content", "") for event in events[:-1])
    (record,) = door.records()
    assert record["messages_sent"] < 6


async def test_the_headers_of_a_stream_keep_proxies_from_gathering_it():
    """And it goes by its type."""
    async with ScriptedUpstream(always(STREAM)) as upstream, running_door(upstream.base_url) as door:
        response = await door.complete(stream=True)

    assert "text/event-stream; charset=utf-8" == response.headers["content-type"]
    assert "no-cache, no-transform" == response.headers["cache-control"]
    assert "no" == response.headers["x-accel-buffering"]


async def test_what_was_ignored_is_named():
    """Members that Together has no meaning for are accepted, and the answer says which."""
    message = {"role": "user", "content": "Hi", "cache_control": {"type": "ephemeral"}}
    async with (
        ScriptedUpstream(always(json_answer(200, WHOLE))) as upstream,
        running_door(upstream.base_url) as door,
    ):
        response = await door.complete(user="me", store=True, metadata={"a": "b"}, messages=[message])
        plain = await door.complete()

    names = response.headers["x-togetherchat-ignored"].split(", ")
    assert {"user", "store", "metadata", "messages[].cache_control"} == set(names)
    assert "x-togetherchat-ignored" not in plain.headers
    assert {"model", "messages"} == set(json.loads(upstream.ledger.requests[0].body))


async def test_what_is_not_known_travels_on():
    """A member that this service does not know reaches the provider as it is."""
    async with (
        ScriptedUpstream(always(json_answer(200, WHOLE))) as upstream,
        running_door(upstream.base_url) as door,
    ):
        await door.complete(parallel_tool_calls=False, new_thing={"b": 1.0, "a": 2**70})

    body = upstream.ledger.requests[0].body
    assert b'"new_thing":{"b":1.0,"a":1180591620717411303424}' in body
    assert b'"parallel_tool_calls":false' in body


@pytest.mark.parametrize(
    ("mode", "expected"), [("server", CANARY_KEY), ("caller", TOKEN), ("caller-then-server", TOKEN)]
)
async def test_the_key_that_pays_follows_the_mode(mode, expected):
    """`Authorization` counts where callers bring their keys."""
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with (
        ScriptedUpstream(always(json_answer(200, WHOLE))) as upstream,
        running_door(upstream.base_url, headers=headers, upstream_credentials=mode) as door,
    ):
        assert 200 == (await door.complete()).status_code

    assert f"Bearer {expected}" == upstream.ledger.requests[0].headers["authorization"]


async def test_a_call_is_recorded_as_any_other():
    """The same record as gRPC's, with the door's name in it."""
    async with (
        ScriptedUpstream(always(json_answer(200, WHOLE))) as upstream,
        running_door(upstream.base_url, headers={"x-request-id": "mine"}) as door,
    ):
        response = await door.complete()

    (record,) = door.records()
    assert ("http", "chat.completions", "OK", "mine") == tuple(
        record[name] for name in ("protocol", "method", "code", "id")
    )
    assert ("mine", 3, 1) == (
        response.headers["x-request-id"],
        record["prompt_tokens"],
        record["completion_tokens"],
    )


async def test_the_paths_work_without_their_prefix_too():
    """Some clients are given a base URL without `/v1`."""
    async with (
        ScriptedUpstream(always(json_answer(200, WHOLE))) as upstream,
        running_door(upstream.base_url) as door,
    ):
        assert 200 == (await door.client.post("/chat/completions", json=ask())).status_code


async def test_the_models_are_a_list_object():
    """OpenAI's four members and what else is known; the client of Together gets its bare array."""
    async with running_door() as door:
        listed = (await door.client.get("/v1/models")).json()
        bare = (await door.client.get("/v1/models", headers={"user-agent": "Together/Python 3.1.1"})).json()
        one = (await door.client.get(f"/v1/models/{listed['data'][0]['id']}")).json()

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
    """Whether the catalogue names the model, knows it as retired or has never heard of it."""
    async with (
        ScriptedUpstream(always(json_answer(200, {**WHOLE, "model": model}))) as upstream,
        running_door(upstream.base_url) as door,
    ):
        response = await door.complete(model=model)

    assert (200, model) == (response.status_code, response.json()["model"])
    assert model == json.loads(upstream.ledger.requests[0].body)["model"]


REFUSAL = {"error": {"message": "Slow down.", "type": "rate_limit", "code": None}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [200, 429])
async def test_the_quota_that_is_left_is_told_with_every_answer(status, stream):
    """Whole, streamed or refused: a caller can watch it, and slow down in time."""
    limits = {"x-ratelimit-limit": "60", "x-ratelimit-remaining": "41", "x-tokenlimit-remaining": "7000"}
    answer = json_answer(status, REFUSAL if status == 429 else WHOLE, limits)
    if stream and status == 200:
        answer = (Send(sse_head(headers=limits)), *STREAM[1:])
    async with ScriptedUpstream(always(answer)) as upstream, running_door(upstream.base_url) as door:
        response = await door.complete(stream=stream)

    assert status == response.status_code
    assert limits == {name: response.headers.get(name) for name in limits}


async def test_a_fallback_answers_where_the_model_does_not():
    """`model` is the one that served, and its price makes the cost."""
    refused = json_answer(404, {"error": {"message": "No.", "code": "model_not_available"}})
    answer = json_answer(200, {**WHOLE, "model": PRICED})
    async with (
        ScriptedUpstream(in_turn(refused, answer)) as upstream,
        running_door(upstream.base_url) as door,
    ):
        response = await door.complete(model="gone/model", fallback_models=[PRICED])

    assert [b"gone/model" in asked.body for asked in upstream.ledger.requests] == [True, False]
    assert PRICED == response.json()["model"]
    assert response.json()["usage"]["cost"] > 0


async def test_the_rate_limits_of_the_provider_are_passed_on():
    """A caller can watch its quota."""
    answer = json_answer(200, WHOLE, {"x-ratelimit-remaining": "41", "x-request-id": "theirs"})
    async with ScriptedUpstream(always(answer)) as upstream, running_door(upstream.base_url) as door:
        response = await door.complete()

    assert ("41", "o1", "together") == tuple(
        response.headers[name] for name in ("x-ratelimit-remaining", "x-upstream-request-id", "x-upstream")
    )
