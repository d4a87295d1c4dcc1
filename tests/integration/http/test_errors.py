"""Failures over HTTP: a status of the table, a body in OpenAI's format, and whether to retry."""

import asyncio
import json

import pytest

from support import openai
from support.app import CANARY_KEY, CANARY_PROMPT
from support.http_client import COMPLETIONS, raw_caller, request_body, running_http
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Fin, Send, Stall, http_response, json_response, sse_event, sse_head

DELTA = sse_event(openai.chunk("Hel"))

PROVIDER = [
    # The three statuses of the brief, and others that a caller must distinguish.
    (401, openai.error("No.", code="invalid_api_key"), 401, "service_key_rejected", "false"),
    (429, openai.error("No.", type="rate_limit"), 429, "rate_limit_exceeded", "true"),
    (500, openai.error("No."), 500, "upstream_internal", "false"),
    (400, openai.error("This model's maximum context length is 8 tokens"), 400, "context_length_exceeded", "false"),
    (404, openai.error("Unable to access model x", code="model_not_available"), 404, "model_not_found", "false"),
    (402, openai.error("No."), 402, "spend_limit_reached", "false"),
    (503, openai.error("No."), 503, "upstream_overloaded", "true"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "expected", "code", "retry"), PROVIDER)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_of_the_provider_has_its_status(status, body, expected, code, retry, stream):
    """A stream that fails before any output has the same status as a unary call."""
    async with (
        ScriptedUpstream(always(json_response(status, body))) as upstream,
        running_http(upstream.base_url) as service,
    ):
        response = await service.complete(stream=stream)

    assert expected == response.status_code, response.text
    error = response.json()["error"]
    assert {"message", "type", "param", "code"} == error.keys()
    assert (code, retry) == (error["code"], response.headers["x-should-retry"])
    assert ("retry-after" in response.headers) == (retry == "true")
    assert response.headers["x-request-id"]
    (record,) = service.records()
    assert str(expected) == record["code"]


async def test_the_providers_delay_is_passed_on():
    """It is sent in whole seconds, and in milliseconds for OpenAI's clients, with jitter."""
    rejection = json_response(429, openai.error("No."), {"retry-after": "7"})
    async with ScriptedUpstream(always(rejection)) as upstream, running_http(upstream.base_url) as service:
        response = await service.complete()

    assert 7 <= int(response.headers["retry-after"]) <= 9
    assert 7000 <= int(response.headers["retry-after-ms"]) <= 8400


async def test_an_error_within_a_stream_is_its_last_event():
    """There is no `[DONE]`, and the body has no end, so that clients that ignore the event notice too."""
    broken = (Send(sse_head() + DELTA), Fin())
    async with ScriptedUpstream(always(broken)) as upstream, running_http(upstream.base_url) as service:
        first, last = await service.events_before_the_break()

    assert "Hel" == first["choices"][0]["delta"]["content"]
    assert "upstream_truncated" == last["error"]["code"]
    (record,) = service.records()
    assert ("502", "UPSTREAM_TRUNCATED", 2) == tuple(
        record[name] for name in ("code", "reason", "messages_sent")
    )


INVALID_REQUESTS = [
    (b"{", {}, 400, "invalid_request", None),
    (b"[]", {}, 400, "invalid_request", None),
    (b'"x"', {}, 400, "invalid_request", None),
    (b"\xff\xfe", {}, 400, "invalid_request", None),
    (b'{"model": NaN}', {}, 400, "invalid_request", None),
    (b"[" * 100_000, {}, 400, "invalid_request", None),
    (request_body(messages="x"), {}, 400, "invalid_request", "messages"),
    (request_body(messages=[]), {}, 400, "invalid_request", "messages"),
    (request_body(messages=[{"role": "robot", "content": "x"}]), {}, 400, "invalid_request", "messages[0].role"),
    (request_body(messages=[{"role": "user", "content": [{"type": "text", "text": 1}]}]), {}, 400, "invalid_request", "messages[0].content[0].text"),
    (request_body(messages=[{"role": "user", "content": [{"type": "file"}]}]), {}, 400, "invalid_request", "messages[0].content[0].type"),
    (request_body(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "ftp://x"}}]}]), {}, 400, "invalid_request", "messages[0].content[0].image_url.url"),
    (request_body(temperature="hot"), {}, 400, "invalid_request", "temperature"),
    (request_body(temperature=3), {}, 400, "invalid_request", "temperature"),
    (request_body(n=2**40), {}, 400, "invalid_request", "n"),
    (request_body(seed=2**64), {}, 400, "invalid_request", "seed"),
    (request_body(top_logprobs=2), {}, 400, "invalid_request", "top_logprobs"),
    (request_body(function_call="auto"), {}, 400, "invalid_request", "function_call"),
    (request_body(modalities=["audio"]), {}, 400, "invalid_request", "modalities"),
    (request_body(max_tokens=1, max_completion_tokens=2), {}, 400, "invalid_request", "max_completion_tokens"),
    (request_body(new_thing=10.0**308, other=[1]), {"x-provider": "openai"}, 400, "unknown_provider", "x-provider"),
    (request_body(), {"content-type": "text/plain"}, 415, "unsupported_media_type", None),
    (request_body(), {"origin": "https://elsewhere.example"}, 403, "foreign_origin", None),
]  # fmt: skip


@pytest.mark.parametrize(("body", "headers", "status", "code", "param"), INVALID_REQUESTS)
async def test_an_invalid_request_is_rejected(body, headers, status, code, param):
    """Nothing is sent to the provider; the error names the field."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with ScriptedUpstream(always((Stall(),))) as upstream, running_http(upstream.base_url) as service:
        response = await service.client.post(
            COMPLETIONS, content=data, headers={"content-type": "application/json", **headers}
        )

    assert status == response.status_code, response.text
    error = response.json()["error"]
    assert (code, param) == (error["code"], error["param"])
    assert "false" == response.headers["x-should-retry"]
    assert [] == upstream.request_log.requests


@pytest.mark.parametrize(
    ("host", "settings", "status"),
    [
        ("localhost:3000", {}, 200),
        ("[::1]:3000", {}, 200),
        ("rebound.example:3000", {}, 403),
        ("behind.example", {"allow_unauthenticated": True}, 200),
    ],
)
async def test_a_page_may_send_requests_to_its_own_site(host, settings, status):
    """On a loopback address the site must have a loopback name, which prevents DNS rebinding."""
    async with running_http(sandbox_tokens_per_second=0, **settings) as service:
        headers = {"host": host, "origin": f"http://{host}"}
        response = await service.client.post(COMPLETIONS, json=request_body(), headers=headers)

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
async def test_an_unknown_path_or_method_is_rejected(method, path, status):
    """The error has the same format, and there is no call record."""
    async with running_http() as service:
        response = await service.client.request(method, path)

    assert status == response.status_code
    assert response.json()["error"]["message"]
    assert response.headers["x-request-id"]
    assert ("allow" in response.headers) == (status == 405)
    assert [] == service.records()


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("//v1/chat/completions", "/v1/chat/completions"),
        ("/v1//chat/completions", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/chat/completions//", "/v1/chat/completions"),
        ("/v1/chat/completions/chat/completions", "/v1/chat/completions"),
        ("/v1/models/", "/v1/models"),
        ("/models/", "/v1/models"),
        ("/v1/v1/models", "/v1/models"),
        ("//models/a/b", "/v1/models/{id}"),
        ("/v1/v1/models/a/b", "/v1/models/{id}"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_wrong_base_url_is_told_the_right_path(method, path, meant):
    """The request is not served under two names: a client would keep the wrong one."""
    async with running_http() as service, raw_caller(service.address) as caller:
        await caller.send(
            f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()
        )
        head, _, body = (await caller.read_to_end()).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 404 ")
    assert f"unknown path; use {meant}" == json.loads(body)["error"]["message"]


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/responses", "/v1/messages", "/v1/embeddings"])
async def test_an_unknown_path_is_told_what_there_is(path):
    """A client of another API learns that it is not served here."""
    async with running_http() as service:
        response = await service.client.get(path)

    expected = "unknown path; there are /v1/chat/completions, /v1/models, /v1/models/{id} and /openapi.json"
    assert expected == response.json()["error"]["message"]


async def test_bytes_that_are_not_http_get_a_json_error():
    """The error has the same format as others."""
    async with running_http() as service, raw_caller(service.address) as caller:
        await caller.send(b"HELLO\r\n\r\n")
        text = await caller.read_to_end()

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
async def test_a_caller_without_a_usable_key_is_rejected(authorization, code):
    """With `upstream_credentials=caller`, the status is 401."""
    headers = {} if authorization is None else {"authorization": authorization.encode("latin-1")}
    async with running_http(upstream_credentials="caller", headers=headers) as service:
        response = await service.complete()

    assert (401, code) == (response.status_code, response.json()["error"]["code"])


async def test_an_unknown_model_is_not_found():
    """The error is that of OpenAI."""
    async with running_http() as service:
        response = await service.client.get("/v1/models/no/such")

    assert 404 == response.status_code
    assert ("model_not_found", "model") == tuple(response.json()["error"][name] for name in ("code", "param"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("x" * 256, (404, "model_not_found")),
        ("x" * 257, (400, "invalid_request")),
        ("%ff", (404, "model_not_found")),
    ],
)
async def test_an_id_of_a_model_has_at_most_256_characters(path, expected):
    """Bytes that are not UTF-8 are an unknown id."""
    async with running_http() as service:
        response = await service.client.get(f"/v1/models/{path}")

    assert expected == (response.status_code, response.json()["error"]["code"])


async def test_a_call_ends_before_the_clients_timeout():
    """The client would retry after its own timeout; it does not retry this status."""
    async with ScriptedUpstream(always((Stall(),))) as upstream, running_http(upstream.base_url) as service:
        response = await service.client.post(
            COMPLETIONS, json=request_body(), headers={"x-stainless-read-timeout": "0.5"}
        )
        await upstream.closed(0)

    assert (504, "caller_deadline") == (response.status_code, response.json()["error"]["code"])
    assert "false" == response.headers["x-should-retry"]


async def test_calls_beyond_the_bound_are_rejected():
    """OVERLOADED is a retryable 503; the call in flight continues."""
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        running_http(upstream.base_url, max_concurrent_calls=1) as service,
    ):
        first = asyncio.ensure_future(service.complete())
        await upstream.received()
        second = await service.complete()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)

    assert (503, "overloaded") == (second.status_code, second.json()["error"]["code"])
    assert "true" == second.headers["x-should-retry"]


async def test_a_failure_and_the_log_contain_no_key_and_no_prompt():
    """The provider's error contains both."""
    body = openai.error(f"your key {CANARY_KEY} and {CANARY_PROMPT}")
    async with (
        ScriptedUpstream(always(json_response(401, body))) as upstream,
        running_http(upstream.base_url) as service,
    ):
        response = await service.complete(messages=[{"role": "user", "content": CANARY_PROMPT}])

    assert CANARY_KEY not in response.text + str(response.headers) + service.app.log.getvalue()
    assert CANARY_PROMPT not in service.app.log.getvalue()


async def test_a_response_that_is_not_json_is_a_502():
    """The caller can distinguish it from an internal error of this service."""
    async with (
        ScriptedUpstream(always(http_response(200, b"<html>", {"content-type": "text/html"}))) as upstream,
        running_http(upstream.base_url) as service,
    ):
        response = await service.complete()

    assert (502, "false") == (response.status_code, response.headers["x-should-retry"])
