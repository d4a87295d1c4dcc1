"""Chat completions over HTTP in OpenAI's format, unary and streamed."""

import json

import pytest

from support import openai
from support.app import CANARY_KEY
from support.http_client import TOKEN, events_of, get_page, head, raw_caller, request_body, running_http
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
    """The role comes first, a choice finishes once with the usage, and `[DONE]` is last."""
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
    assert {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5} == chunks[-1]["usage"]
    assert not any("usage" in chunk for chunk in chunks[:-1])


@pytest.mark.parametrize(
    ("options", "places"), [({}, 1), ({"include_usage": None}, 1), ({"include_usage": False}, 0)]
)
async def test_no_chunk_is_without_choices_unless_it_was_requested(options, places):
    """A client that did not ask for such a chunk reads `choices[0]`. With False the stream has no usage."""
    async with ScriptedUpstream(always(STREAM)) as upstream, running_http(upstream.base_url) as service:
        *chunks, _ = await service.events(stream_options=options)

    assert all(chunk["choices"] for chunk in chunks)
    assert places == len([chunk for chunk in chunks if "usage" in chunk])


async def test_the_usage_of_several_choices_comes_with_the_last_one():
    """Each choice finishes once, and one chunk has the usage of all."""
    stream = sse(
        [
            openai.chunk("a", index=0),
            openai.chunk("b", index=1),
            openai.chunk(finish_reason="stop", index=1),
            openai.chunk(finish_reason="length", index=0, usage=openai.usage(3, 2)),
            openai.DONE,
        ]
    )
    async with ScriptedUpstream(always(stream)) as upstream, running_http(upstream.base_url) as service:
        *_, first, last, _ = await service.events(n=2)

    assert ["length", "stop"] == [chunk["choices"][0]["finish_reason"] for chunk in (first, last)]
    assert ("usage" in first, last["usage"]["total_tokens"]) == (False, 5)


async def test_requested_usage_comes_in_a_last_chunk():
    """In the chunks before it, usage is null, as in OpenAI's."""
    async with ScriptedUpstream(always(STREAM)) as upstream, running_http(upstream.base_url) as service:
        *chunks, last, done = await service.events(stream_options={"include_usage": True})

    assert {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5} == last["usage"]
    assert ([], "[DONE]") == (last["choices"], done)
    assert {None} == {chunk["usage"] for chunk in chunks}


WITHOUT = sse([openai.chunk("Hel"), openai.chunk("lo"), openai.chunk(finish_reason="stop"), openai.DONE])
COUNTED = {"prompt_tokens": 0, "completion_tokens": 2, "total_tokens": 2, "estimated": True}


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, [COUNTED]), ({"include_usage": True}, [COUNTED]), ({"include_usage": False}, [])],
)
async def test_counts_of_this_service_are_marked(options, expected):
    """A provider that sends no usage does not become one that sent zero prompt tokens."""
    async with ScriptedUpstream(always(WITHOUT)) as upstream, running_http(upstream.base_url) as service:
        *chunks, _ = await service.events(stream_options=options)

    assert expected == [chunk["usage"] for chunk in chunks if chunk.get("usage")]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (None, None),
        ({}, None),
        (
            {"prompt_tokens": 3},
            {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3, "estimated": True},
        ),
        (openai.usage(0, 0), openai.usage(0, 0)),
    ],
)
async def test_a_whole_completion_has_no_invented_usage(counts, expected):
    """Zeros that the provider sent are its count. Without any count, `usage` is absent."""
    body = {**COMPLETION, "usage": counts}
    async with (
        ScriptedUpstream(always(json_response(200, body))) as upstream,
        running_http(upstream.base_url) as service,
    ):
        response = (await service.complete()).json()

    assert expected == response.get("usage")
    assert ("usage" in response) == (expected is not None)


async def test_a_folded_completion_marks_its_own_counts():
    """A completion that is read as a stream has the deltas as its count."""
    async with (
        ScriptedUpstream(always(WITHOUT)) as upstream,
        running_http(upstream.base_url, stream_upstream_min_tokens=0) as service,
    ):
        response = (await service.complete()).json()

    assert COUNTED == response["usage"]


NOTHING = sse([openai.chunk("", finish_reason="stop"), openai.DONE])
ZEROS = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "estimated": True}


@pytest.mark.parametrize(("options", "expected"), [({}, []), ({"include_usage": True}, [ZEROS])])
async def test_a_stream_without_a_token_has_the_usage_that_was_asked_for(options, expected):
    """A client that asked waits for its chunk; for another, zeros would look like the provider's count."""
    async with ScriptedUpstream(always(NOTHING)) as upstream, running_http(upstream.base_url) as service:
        *chunks, done = await service.events(stream_options=options)

    assert ("[DONE]", expected) == (done, [chunk["usage"] for chunk in chunks if chunk.get("usage")])
    assert "stop" in [chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk["choices"]]


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


REFUSAL = {"role": "assistant", "content": None, "refusal": "I cannot help with that."}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_is_passed_on_and_may_be_sent_back(stream):
    """OpenAI's clients read it beside the content, and append it to the next request."""
    refused = json_response(200, openai.completion(choices=[openai.choice(REFUSAL)]))
    async with ScriptedUpstream(always(refused)) as upstream, running_http(upstream.base_url) as service:
        if stream:
            *chunks, _ = await service.events()
            received = "".join(chunk["choices"][0]["delta"].get("refusal") or "" for chunk in chunks)
        else:
            received = (await service.complete()).json()["choices"][0]["message"]["refusal"]
        again = [{"role": "user", "content": "Hi"}, {**REFUSAL, "refusal": received}]
        response = await service.complete(messages=again)

    assert (REFUSAL["refusal"], 200) == (received, response.status_code)
    assert again == json.loads(upstream.request_log.requests[-1].body)["messages"]


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


async def test_a_stream_over_http_1_0_ends_with_the_connection():
    """HTTP/1.0 has no chunks (RFC 9112 6.1), and nginx's `proxy_pass` uses it by default."""
    body = json.dumps(request_body(stream=True)).encode()
    async with (
        ScriptedUpstream(always(STREAM)) as upstream,
        running_http(upstream.base_url) as service,
        raw_caller(service.address) as caller,
    ):
        whole = head("connection: keep-alive", f"content-length: {len(body)}").replace(
            b"HTTP/1.1", b"HTTP/1.0"
        )
        await caller.send(whole + body)
        top, _, text = (await caller.read_to_end()).partition(b"\r\n\r\n")

    assert b"transfer-encoding" not in top.lower()
    assert "[DONE]" == events_of(text.decode())[-1]


async def test_ignored_members_are_named():
    """Members without a meaning for Together are accepted, and named in a header."""
    message = {"role": "user", "content": "Hi", "cache_control": {"type": "ephemeral"}}
    async with (
        ScriptedUpstream(always(json_response(200, COMPLETION))) as upstream,
        running_http(upstream.base_url) as service,
    ):
        response = await service.complete(store=True, metadata={"a": "b"}, messages=[message])
        plain = await service.complete()

    names = response.headers["x-togetherchat-ignored"].split(", ")
    assert {"store", "metadata", "messages[].cache_control"} == set(names)
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


SEEDS = [-(2**63), -1, 0, 2**63 - 1, 2**63, 2**64 - 1]


@pytest.mark.parametrize("seed", SEEDS)
async def test_any_seed_of_64_bits_reaches_the_provider_exactly(seed):
    """A negative one too, although the contract's field is unsigned."""
    async with (
        ScriptedUpstream(always(json_response(200, COMPLETION))) as upstream,
        running_http(upstream.base_url) as service,
    ):
        assert 200 == (await service.complete(seed=seed)).status_code

    assert f'"seed":{seed}'.encode() in upstream.request_log.requests[0].body
    assert {**request_body(), "seed": seed} == json.loads(upstream.request_log.requests[0].body)


@pytest.mark.parametrize("seed", [-(2**63) - 1, 2**64, 1.5, "1", True, [1]])
async def test_any_other_seed_is_rejected(seed):
    """The provider is not asked."""
    async with ScriptedUpstream(always(STREAM)) as upstream, running_http(upstream.base_url) as service:
        response = await service.complete(seed=seed)

    assert (400, "seed") == (response.status_code, response.json()["error"]["param"])
    assert not upstream.request_log.requests


@pytest.mark.parametrize("stream", [False, True])
async def test_the_seed_of_a_response_is_accepted_as_the_seed_of_a_request(stream):
    """Seeds of the provider are often above the range of a signed integer."""
    seed = 17598938344439790000
    choice = {**COMPLETION["choices"][0], "seed": seed}
    unary = json_response(200, {**COMPLETION, "choices": [choice]})
    last = openai.chunk(finish_reason="stop")
    last["choices"][0]["seed"] = seed
    first = sse([last, openai.DONE]) if stream else unary
    async with (
        ScriptedUpstream(in_turn(first, unary)) as upstream,
        running_http(upstream.base_url) as service,
    ):
        if stream:
            *_, finish, _ = await service.events()
            returned = finish["choices"][0]["seed"]
        else:
            returned = (await service.complete()).json()["choices"][0]["seed"]
        again = await service.complete(seed=returned)

    assert (seed, seed) == (returned, again.json()["choices"][0]["seed"])
    assert seed == json.loads(upstream.request_log.requests[1].body)["seed"]


@pytest.mark.parametrize(("forward", "sent"), [(True, "user-7f3a"), (False, None)])
@pytest.mark.parametrize("stream", [False, True])
async def test_user_is_forwarded_unless_that_is_switched_off(forward, sent, stream):
    """The member may be personal data, so it is in no record, no metric and no header either."""
    async with (
        ScriptedUpstream(always(STREAM if stream else json_response(200, COMPLETION))) as upstream,
        running_http(upstream.base_url, forward_user=forward) as service,
    ):
        response = await service.complete(user="user-7f3a", stream=stream)
        metrics = await get_page(service.app.addresses.admin, "/metrics")

    assert (200, 200) == (response.status_code, metrics.status)
    assert sent == json.loads(upstream.request_log.requests[0].body).get("user")
    assert "user-7f3a" not in service.app.log.getvalue() + metrics.text + str(response.headers)


async def test_a_long_user_is_rejected():
    """The bound is 256 characters."""
    async with (
        ScriptedUpstream(always(json_response(200, COMPLETION))) as upstream,
        running_http(upstream.base_url) as service,
    ):
        longest, longer = await service.complete(user="ü" * 256), await service.complete(user="u" * 257)

    assert (200, 400) == (longest.status_code, longer.status_code)
    assert "user" == longer.json()["error"]["param"]


async def test_an_unknown_behavior_is_rejected_with_the_known_ones():
    """The member keeps the provider's two strings."""
    async with (
        ScriptedUpstream(always(json_response(200, COMPLETION))) as upstream,
        running_http(upstream.base_url) as service,
    ):
        known = await service.complete(context_length_exceeded_behavior="truncate")
        unknown = await service.complete(context_length_exceeded_behavior="Truncate")

    assert (200, 400) == (known.status_code, unknown.status_code)
    assert "truncate" == json.loads(upstream.request_log.requests[0].body)["context_length_exceeded_behavior"]
    error = unknown.json()["error"]
    assert "context_length_exceeded_behavior" == error["param"]
    assert "'error' or 'truncate'" in error["message"]


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
