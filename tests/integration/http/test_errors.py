"""Failures over HTTP: a status of the table, OpenAI's body, and whether to come back."""

import asyncio
import json

import pytest

from support.app import CANARY_KEY, CANARY_PROMPT
from support.http_client import COMPLETIONS, ask, events_of, raw_caller, running_door
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Fin, Send, Stall, answer, chunk, json_answer, sse_head

PIECE = chunk(
    b'data: {"id":"o","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{"role":"assistant","content":"Hel"},"finish_reason":null}]}\n\n'
)


def said(code, message="No.", **members):
    return {"error": {"message": message, "type": "invalid_request_error", "code": code, **members}}


PROVIDER = [
    # the brief's three, and what else a caller must tell apart
    (401, said("invalid_api_key"), 401, "service_key_rejected", "false"),
    (429, said(None, type="rate_limit"), 429, "rate_limit_exceeded", "true"),
    (500, said(None), 500, "upstream_internal", "false"),
    (400, said(None, "This model's maximum context length is 8 tokens"), 400, "context_length_exceeded", "false"),
    (404, said("model_not_available", "Unable to access model x"), 404, "model_not_found", "false"),
    (402, said(None), 402, "spend_limit_reached", "false"),
    (503, said(None), 503, "upstream_overloaded", "true"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "expected", "code", "retry"), PROVIDER)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_of_the_provider(status, body, expected, code, retry, stream):
    """Before anything was sent, a stream fails with the same status as a whole answer."""
    async with (
        ScriptedUpstream(always(json_answer(status, body))) as upstream,
        running_door(upstream.base_url) as door,
    ):
        response = await door.complete(stream=stream)

    assert expected == response.status_code, response.text
    error = response.json()["error"]
    assert {"message", "type", "param", "code"} == error.keys()
    assert (code, retry) == (error["code"], response.headers["x-should-retry"])
    assert ("retry-after" in response.headers) == (retry == "true")
    assert response.headers["x-request-id"]
    (record,) = door.records()
    assert str(expected) == record["code"]


async def test_the_providers_wait_is_passed_on():
    """In whole seconds, and finely for the official clients; spread, so that not all come at once."""
    refusal = json_answer(429, said(None), {"retry-after": "7"})
    async with ScriptedUpstream(always(refusal)) as upstream, running_door(upstream.base_url) as door:
        response = await door.complete()

    assert 7 <= int(response.headers["retry-after"]) <= 9
    assert 7000 <= int(response.headers["retry-after-ms"]) <= 8400


async def test_an_error_within_a_stream_is_its_last_event():
    """There is no `[DONE]`, the connection ends in order, and a retry could bill twice."""
    broken = (Send(sse_head() + PIECE), Fin())
    async with ScriptedUpstream(always(broken)) as upstream, running_door(upstream.base_url) as door:
        response = await door.complete(stream=True)

    first, last = events_of(response.text)
    assert "Hel" == first["choices"][0]["delta"]["content"]
    assert "upstream_truncated" == last["error"]["code"]
    (record,) = door.records()
    assert ("502", "UPSTREAM_TRUNCATED", 2) == tuple(
        record[name] for name in ("code", "reason", "messages_sent")
    )


REFUSED = [
    (b"{", {}, 400, "invalid_request", None),
    (b"[]", {}, 400, "invalid_request", None),
    (b'"x"', {}, 400, "invalid_request", None),
    (b"\xff\xfe", {}, 400, "invalid_request", None),
    (b'{"model": NaN}', {}, 400, "invalid_request", None),
    (b"[" * 100_000, {}, 400, "invalid_request", None),
    (ask(messages="x"), {}, 400, "invalid_request", "messages"),
    (ask(messages=[]), {}, 400, "invalid_request", "messages"),
    (ask(messages=[{"role": "robot", "content": "x"}]), {}, 400, "invalid_request", "messages[0].role"),
    (ask(messages=[{"role": "user", "content": [{"type": "text", "text": 1}]}]), {}, 400, "invalid_request", "messages[0].content[0].text"),
    (ask(messages=[{"role": "user", "content": [{"type": "file"}]}]), {}, 400, "invalid_request", "messages[0].content[0].type"),
    (ask(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "ftp://x"}}]}]), {}, 400, "invalid_request", "messages[0].content[0].image_url.url"),
    (ask(temperature="hot"), {}, 400, "invalid_request", "temperature"),
    (ask(temperature=3), {}, 400, "invalid_request", "temperature"),
    (ask(n=2**40), {}, 400, "invalid_request", "n"),
    (ask(seed=2**63), {}, 400, "invalid_request", "seed"),
    (ask(top_logprobs=2), {}, 400, "invalid_request", "top_logprobs"),
    (ask(functions=[{"name": "f"}]), {}, 400, "invalid_request", "functions"),
    (ask(modalities=["audio"]), {}, 400, "invalid_request", "modalities"),
    (ask(max_tokens=1, max_completion_tokens=2), {}, 400, "invalid_request", "max_completion_tokens"),
    (ask(new_thing=10.0**308, other=[1]), {"x-provider": "openai"}, 400, "unknown_provider", "x-provider"),
    (ask(), {"content-type": "text/plain"}, 415, "unsupported_media_type", None),
    (ask(), {"origin": "https://elsewhere.example"}, 403, "foreign_origin", None),
]  # fmt: skip


@pytest.mark.parametrize(("body", "headers", "status", "code", "param"), REFUSED)
async def test_a_request_that_is_refused(body, headers, status, code, param):
    """Nothing reaches the provider; the body says where it is wrong, and repeats nothing of it."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with ScriptedUpstream(always((Stall(),))) as upstream, running_door(upstream.base_url) as door:
        response = await door.client.post(
            COMPLETIONS, content=data, headers={"content-type": "application/json", **headers}
        )

    assert status == response.status_code, response.text
    error = response.json()["error"]
    assert (code, param) == (error["code"], error["param"])
    assert "false" == response.headers["x-should-retry"]
    assert [] == upstream.ledger.requests


@pytest.mark.parametrize(
    ("host", "settings", "status"),
    [
        ("localhost:3000", {}, 200),
        ("[::1]:3000", {}, 200),
        ("rebound.example:3000", {}, 403),
        ("behind.example", {"allow_unauthenticated": True}, 200),
    ],
)
async def test_a_page_that_asks_the_site_it_came_from(host, settings, status):
    """On a loopback address only a page of this machine: any other has a name that was bent to it."""
    async with running_door(sandbox_tokens_per_second=0, **settings) as door:
        headers = {"host": host, "origin": f"http://{host}"}
        response = await door.client.post(COMPLETIONS, json=ask(), headers=headers)

    assert status == response.status_code


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1", 404),
        ("POST", "/v1/completions", 404),
        ("GET", "/v1/chat/completions", 405),
        ("OPTIONS", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models/x", 405),
        ("POST", "/openapi.json", 405),
    ],
)
async def test_a_path_or_method_that_there_is_not(method, path, status):
    """It is answered in the same shape, and is no call."""
    async with running_door() as door:
        response = await door.client.request(method, path)

    assert status == response.status_code
    assert response.json()["error"]["message"]
    assert response.headers["x-request-id"]
    assert ("allow" in response.headers) == (status == 405)
    assert [] == door.records()


async def test_what_is_no_http_is_answered_in_the_same_shape():
    """Even that is told in JSON."""
    async with running_door() as door, raw_caller(door) as caller:
        await caller.send(b"HELLO\r\n\r\n")
        text = await caller.ended()

    status, _, body = text.partition(b"\r\n\r\n")
    assert status.startswith(b"HTTP/1.1 400 ")
    assert "this is not HTTP/1.1" == json.loads(body)["error"]["message"]


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, "missing_credentials"),
        ("Basic x", "invalid_api_key"),
        ("Bearer", "invalid_api_key"),
        ("Bearer \u00fc", "invalid_api_key"),
    ],
)
async def test_a_caller_without_a_usable_key(authorization, code):
    """Where callers bring their keys, none is a 401."""
    headers = {} if authorization is None else {"authorization": authorization.encode("latin-1")}
    async with running_door(upstream_credentials="caller", headers=headers) as door:
        response = await door.complete()

    assert (401, code) == (response.status_code, response.json()["error"]["code"])


async def test_a_model_that_there_is_not():
    """As OpenAI says it."""
    async with running_door() as door:
        response = await door.client.get("/v1/models/no/such")

    assert 404 == response.status_code
    assert ("model_not_found", "model") == tuple(response.json()["error"][name] for name in ("code", "param"))


async def test_a_deadline_of_the_client_is_answered_before_it_passes():
    """The client's own timer would send the conversation once more; this status it does not retry."""
    async with ScriptedUpstream(always((Stall(),))) as upstream, running_door(upstream.base_url) as door:
        response = await door.client.post(
            COMPLETIONS, json=ask(), headers={"x-stainless-read-timeout": "0.5"}
        )
        await upstream.closed(0)

    assert (504, "caller_deadline") == (response.status_code, response.json()["error"]["code"])
    assert "false" == response.headers["x-should-retry"]


async def test_calls_beyond_the_bound_are_refused():
    """OVERLOADED is 503, to be tried again; the call that runs is not disturbed."""
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        running_door(upstream.base_url, max_concurrent_calls=1) as door,
    ):
        first = asyncio.ensure_future(door.complete())
        await upstream.asked()
        second = await door.complete()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)

    assert (503, "overloaded") == (second.status_code, second.json()["error"]["code"])
    assert "true" == second.headers["x-should-retry"]


async def test_no_key_and_no_prompt_in_a_failure_or_in_the_log():
    """Whatever the provider says of them."""
    body = said(None, f"your key {CANARY_KEY} and {CANARY_PROMPT}")
    async with (
        ScriptedUpstream(always(json_answer(401, body))) as upstream,
        running_door(upstream.base_url) as door,
    ):
        response = await door.complete(messages=[{"role": "user", "content": CANARY_PROMPT}])

    assert CANARY_KEY not in response.text + str(response.headers) + door.app.log.getvalue()
    assert CANARY_PROMPT not in door.app.log.getvalue()


async def test_an_answer_that_is_no_json_is_a_502():
    """The caller can tell it from a fault of this service."""
    async with (
        ScriptedUpstream(always(answer(200, b"<html>", {"content-type": "text/html"}))) as upstream,
        running_door(upstream.base_url) as door,
    ):
        response = await door.complete()

    assert (502, "false") == (response.status_code, response.headers["x-should-retry"])
