"""The error table, row by row, between a real upstream socket and a real channel.

Each row states what the upstream does and which status the caller gets. No status may contain the
key, the prompt or the text of an exception.
"""

import asyncio
from dataclasses import dataclass, field

import grpc
import pytest

from support import openai
from support.app import CANARY_KEY, CANARY_PROMPT, MODEL, collect, failing, grpc_timeout, request, running_app
from support.ports import refusing_port
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import (
    Fin,
    Reset,
    Send,
    Stall,
    chunk,
    html_response,
    http_response,
    json_response,
    sse,
    sse_event,
    sse_head,
)
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.frontends.grpc.status import CODES
from togetherchat_server.providers.together import provider
from togetherchat_server.providers.together.provider import TogetherProvider

C = grpc.StatusCode
NONE, NEVER, DELAY = None, "-1", "a delay"


def error_response(status, body=None, headers=None):
    return json_response(status, openai.error() if body is None else body, headers)


CONTEXT_TEXTS = (
    "The input (170071 tokens) is longer than the model's context length (131072 tokens).",
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 32769. Given: 40000 `inputs` tokens",
    "Requested token count exceeds the model's maximum context length of 131072 tokens.",
)


@dataclass(frozen=True)
class Row:
    name: str
    script: object
    code: grpc.StatusCode
    reason: str
    pushback: str | None
    details: tuple = ()
    metadata: dict = field(default_factory=dict)


def status_row(status, code, reason, pushback, *details, body=None, headers=None, name=""):
    return Row(
        name or f"{status}", always(error_response(status, body, headers)), code, reason, pushback, details,
        {"upstreamHttpStatus": str(status)},
    )  # fmt: skip


EDGE_PAGE = "<html><title>Error</title><body>Ray ID " + "x" * 1000 + "</body></html>"

RESPONSES = [
    *(
        status_row(status, C.INVALID_ARGUMENT, "CONTEXT_LENGTH_EXCEEDED", NONE, body=openai.error(text),
                   name=f"{status} context length {number}")
        for status in (400, 403, 413, 422)
        for number, text in enumerate(CONTEXT_TEXTS)
    ),
    *(
        status_row(status, C.NOT_FOUND, "MODEL_NOT_FOUND", NONE, "ResourceInfo",
                   body=openai.error("Unable to access model x.", code="model_not_available"), name=f"{status} model")
        for status in (400, 404)
    ),
    status_row(400, C.INVALID_ARGUMENT, "UPSTREAM_INVALID_REQUEST", NONE),
    status_row(422, C.INVALID_ARGUMENT, "UPSTREAM_INVALID_REQUEST", NONE),
    status_row(400, C.INVALID_ARGUMENT, "UPSTREAM_INVALID_REQUEST", NONE, "BadRequest",
               body=openai.error("top_p must be below 1", param="top_p"), name="400 param"),
    status_row(422, C.INVALID_ARGUMENT, "UPSTREAM_INVALID_REQUEST", NONE, "BadRequest",
               body={"detail": [{"loc": ["body", "seed"], "msg": "field required"}]}, name="422 detail"),
    status_row(400, C.INVALID_ARGUMENT, "CONTEXT_LENGTH_EXCEEDED", NONE,
               body=[{"error": {"code": 400, "message": CONTEXT_TEXTS[0]}}], name="400 context length in a list"),
    status_row(413, C.INVALID_ARGUMENT, "REQUEST_TOO_LARGE", NONE),
    status_row(401, C.UNAUTHENTICATED, "SERVICE_KEY_REJECTED", NONE,
               body=openai.error(f"Invalid API key provided {CANARY_KEY}", code="invalid_api_key")),
    status_row(402, C.FAILED_PRECONDITION, "SPEND_LIMIT_REACHED", NEVER, "PreconditionFailure", "Help",
               body=openai.error("Credit limit exceeded", type="credit_limit")),
    status_row(403, C.PERMISSION_DENIED, "UPSTREAM_PERMISSION_DENIED", NONE),
    Row("403 edge", always(html_response(403, EDGE_PAGE)), C.UNAVAILABLE, "UPSTREAM_EDGE_BLOCKED", NEVER),
    Row("404 edge", always(html_response(404, EDGE_PAGE)), C.INTERNAL, "UPSTREAM_ENDPOINT_NOT_FOUND", NEVER),
    status_row(404, C.INTERNAL, "UPSTREAM_ENDPOINT_NOT_FOUND", NEVER, body=openai.error("Not found")),
    status_row(408, C.UNAVAILABLE, "UPSTREAM_REQUEST_TIMEOUT", DELAY, "RetryInfo"),
    status_row(409, C.ABORTED, "UPSTREAM_CONFLICT", NONE),
    status_row(429, C.RESOURCE_EXHAUSTED, "RATE_LIMITED_REQUESTS", DELAY, "RetryInfo", "QuotaFailure",
               body=openai.error("slow down", type="dynamic_request_limited"), name="429 requests"),
    status_row(429, C.RESOURCE_EXHAUSTED, "RATE_LIMITED_TOKENS", DELAY, "RetryInfo", "QuotaFailure",
               body=openai.error("slow down", type="dynamic_token_limited"), name="429 tokens"),
    status_row(429, C.RESOURCE_EXHAUSTED, "RATE_LIMITED", DELAY, "RetryInfo", "QuotaFailure",
               body=openai.error("slow down", type="credit_limit"), name="429 plain"),
    status_row(429, C.RESOURCE_EXHAUSTED, "QUOTA_EXHAUSTED", NEVER, "QuotaFailure",
               body=openai.error("You exceeded your current quota, please check your billing details.", type="insufficient_quota"),
               name="429 quota"),
    status_row(499, C.UNAVAILABLE, "UPSTREAM_CLOSED", DELAY),
    status_row(500, C.INTERNAL, "UPSTREAM_INTERNAL", NEVER, body=openai.error("Internal server error", type="server_error")),
    status_row(501, C.UNIMPLEMENTED, "UPSTREAM_UNIMPLEMENTED", NONE),
    Row("502 page", always(html_response(502, EDGE_PAGE)), C.UNAVAILABLE, "UPSTREAM_BAD_GATEWAY", DELAY),
    Row("520", always(html_response(520, EDGE_PAGE)), C.UNAVAILABLE, "UPSTREAM_EDGE_ERROR", DELAY),
    status_row(503, C.UNAVAILABLE, "UPSTREAM_OVERLOADED", DELAY, "RetryInfo"),
    status_row(529, C.UNAVAILABLE, "UPSTREAM_OVERLOADED", DELAY),
    status_row(400, C.UNAVAILABLE, "UPSTREAM_ENDPOINT_NOT_RUNNING", NEVER, "RetryInfo",
               body=openai.error("The endpoint is stopped.", code="dedicated_endpoint_not_running"), name="400 stopped endpoint"),
    status_row(504, C.DEADLINE_EXCEEDED, "UPSTREAM_GATEWAY_TIMEOUT", NEVER),
    Row("524", always(html_response(524, EDGE_PAGE)), C.DEADLINE_EXCEEDED, "UPSTREAM_GATEWAY_TIMEOUT", NEVER),
    *(
        Row(f"{status}", always(html_response(status, EDGE_PAGE)), C.UNAVAILABLE, "UPSTREAM_EDGE_UNREACHABLE",
            NEVER if status == 526 else DELAY)
        for status in (521, 522, 523, 525, 526, 530)
    ),
    Row("302", always(http_response(302, b"", {"Location": "http://127.0.0.1:1/"})), C.INTERNAL, "UPSTREAM_UNEXPECTED_STATUS", NEVER),
    status_row(418, C.INTERNAL, "UPSTREAM_UNEXPECTED_STATUS", NEVER),
    status_row(555, C.UNAVAILABLE, "UPSTREAM_UNEXPECTED_STATUS", DELAY),
    Row("reset before the response", always((Reset(),)), C.UNAVAILABLE, "UPSTREAM_RESET", NEVER),
    Row("closed before the response", always((Fin(),)), C.UNAVAILABLE, "UPSTREAM_RESET", NEVER),
    Row("not HTTP", always((Send(b"SSH-2.0-OpenSSH\r\n\r\n"),)), C.INTERNAL, "UPSTREAM_MALFORMED_RESPONSE", NEVER),
    Row("200 page", always(html_response(200, EDGE_PAGE)), C.INTERNAL, "UPSTREAM_MALFORMED_RESPONSE", NEVER),
    Row("200 not JSON", always(http_response(200, b'{"id": ', {"Content-Type": "application/json"})), C.INTERNAL,
        "UPSTREAM_MALFORMED_RESPONSE", NEVER),
    Row("200 other JSON", always(json_response(200, ["nothing"])), C.INTERNAL, "UPSTREAM_MALFORMED_RESPONSE", NEVER),
    Row("200 no choices", always(json_response(200, {"id": "x", "choices": []})), C.INTERNAL,
        "UPSTREAM_MALFORMED_RESPONSE", NEVER),
    Row("200 compressed", always(http_response(200, b"\x1f\x8b", {"Content-Type": "application/json", "Content-Encoding": "gzip"})),
        C.INTERNAL, "UPSTREAM_MALFORMED_RESPONSE", NEVER),
    Row("200 failed choice", always(json_response(200, {"choices": [{"finish_reason": "error", "error": {"code": 503}}]})),
        C.UNAVAILABLE, "UPSTREAM_OVERLOADED", DELAY),
    Row("200 error in a list", always(json_response(200, [{"error": {"code": 500}}])), C.INTERNAL, "UPSTREAM_INTERNAL", NEVER),
    Row("string error", always(json_response(503, {"model": "m", "request_id": "r", "error": "overloaded"})),
        C.UNAVAILABLE, "UPSTREAM_OVERLOADED", DELAY),
    Row("empty error", always(http_response(503, b"")), C.UNAVAILABLE, "UPSTREAM_OVERLOADED", DELAY),
]  # fmt: skip

FAILED_CHOICE = {
    "choices": [
        {"index": 0, "delta": {}, "finish_reason": "error", "error": {"code": 502, "message": "died"}}
    ]
}

STREAMS = [
    Row("closed cleanly before any event", always(sse([])), C.UNAVAILABLE, "UPSTREAM_TRUNCATED", DELAY),
    Row("closed cleanly without a finish reason", always(sse([openai.chunk("Hi")])), C.UNAVAILABLE, "UPSTREAM_TRUNCATED", NEVER),
    Row("reset in the middle", always((Send(sse_head() + sse_event(openai.chunk("Hi"))), Reset())),
        C.UNAVAILABLE, "UPSTREAM_TRUNCATED", NEVER),
    Row("closed within a chunk", always((Send(sse_head() + b"ff\r\ndata: "), Fin())), C.UNAVAILABLE, "UPSTREAM_TRUNCATED", DELAY),
    Row("malformed first event", always(sse(["{"])), C.INTERNAL, "UPSTREAM_MALFORMED_RESPONSE", NEVER),
    Row("malformed later event", always(sse([openai.chunk("Hi"), "{nonsense", openai.DONE])), C.INTERNAL,
        "UPSTREAM_MALFORMED_RESPONSE", NEVER),
    Row("event of another shape", always(sse(["[]", openai.DONE])), C.INTERNAL, "UPSTREAM_MALFORMED_RESPONSE", NEVER),
    Row("error before any output", always(sse(['{"error": {"message": "no", "type": "server_error"}}'])), C.INTERNAL,
        "UPSTREAM_INTERNAL", NEVER),
    Row("error with a status", always(sse(['{"error": {"message": "no", "code": 503}}'])), C.UNAVAILABLE,
        "UPSTREAM_OVERLOADED", DELAY),
    Row("failed choice before any output", always(sse([openai.chunk(finish_reason="error"), openai.DONE])), C.UNAVAILABLE,
        "UPSTREAM_STREAM_ERROR", DELAY),
    Row("failed choice after output", always(sse([openai.chunk("Hi"), FAILED_CHOICE, openai.DONE])), C.UNAVAILABLE,
        "UPSTREAM_BAD_GATEWAY", NEVER, (), {"partialOutput": "true"}),
    Row("error of an unknown reason", always(sse(['{"error": "boom"}'])), C.UNAVAILABLE, "UPSTREAM_STREAM_ERROR", DELAY),
    Row("error after output", always(sse([openai.chunk("Hi"), '{"error": {"message": "no", "code": 503}}'])), C.UNAVAILABLE,
        "UPSTREAM_OVERLOADED", NEVER, (), {"partialOutput": "true"}),
]  # fmt: skip


def check(row, failure):
    assert (row.code, row.reason) == (failure.code, failure.info.reason)
    assert "togetherchat" == failure.info.domain
    assert row.reason == failure.trailers["x-error-reason"]
    assert failure.details["RequestInfo"].request_id == failure.trailers["x-request-id"]
    assert MODEL == failure.info.metadata["model"]
    assert "together" == failure.trailers["x-upstream"]
    if row.pushback == DELAY:
        assert int(failure.pushback) > 0
        assert "true" == failure.trailers["x-error-retryable"]
    else:
        assert row.pushback == failure.pushback
        assert "false" == failure.trailers["x-error-retryable"]
    for detail in row.details:
        assert detail in failure.details
    assert row.metadata.items() <= dict(failure.info.metadata).items()
    seen = f"{failure.message}{failure.trailers}{failure.details}"
    for secret in (CANARY_KEY, CANARY_PROMPT, "Traceback", "Error(", "<html", "Ray ID", "127.0.0.1", "Errno"):
        assert secret not in seen


@pytest.mark.parametrize("row", RESPONSES, ids=lambda row: row.name)
async def test_a_response_of_the_provider_becomes_its_row(row):
    """The status is the same for a unary call and for a stream."""
    async with ScriptedUpstream(row.script) as upstream, running_app(upstream.base_url) as app:
        unary = await failing(app.chat.Complete(request()))
        events, stream = await collect(app.chat.StreamComplete(request()))

    check(row, unary)
    assert [] == events
    check(row, stream)


@pytest.mark.parametrize("row", STREAMS, ids=lambda row: row.name)
async def test_a_failed_stream_becomes_its_row(row):
    """The events received are kept, the status names the reason, and `completed` was not sent."""
    async with ScriptedUpstream(row.script) as upstream, running_app(upstream.base_url) as app:
        events, failure = await collect(app.chat.StreamComplete(request()))

    check(row, failure)
    assert not any(event.HasField("completed") for event in events)
    assert bool(events) == (failure.info.metadata.get("partialOutput") == "true")
    text = "".join(event.delta.text for event in events)
    assert text == ("Hi" if events else "")


async def test_finish_reasons_without_a_done_event_complete_a_stream():
    """A clean close after every choice has finished is OK."""
    async with (
        ScriptedUpstream(always(sse([openai.chunk("Hi", finish_reason="stop")]))) as upstream,
        running_app(upstream.base_url) as app,
    ):
        events, failure = await collect(app.chat.StreamComplete(request()))

    assert failure is None
    assert events[-1].HasField("completed")


async def test_a_refused_connection_is_unavailable():
    """The failure may be retried."""
    with refusing_port() as port:
        async with running_app(f"http://127.0.0.1:{port}/v1") as app:
            failure = await failing(app.chat.Complete(request()))

    check(Row("", None, C.UNAVAILABLE, "UPSTREAM_CONNECT_FAILED", DELAY), failure)


async def test_a_name_that_does_not_resolve_is_unavailable():
    """A DNS failure has its own reason."""
    async with running_app("http://nobody.invalid/v1") as app:
        failure = await failing(app.chat.Complete(request()))

    check(Row("", None, C.UNAVAILABLE, "UPSTREAM_DNS_FAILED", DELAY), failure)


async def test_a_hanging_handshake_is_a_connect_timeout():
    """The peer accepts the connection and never answers the handshake."""
    async with (
        ScriptedUpstream(always(()), on_connect=(Stall(),), scheme="https") as upstream,
        running_app(upstream.base_url, connect_timeout_s=0.2) as app,
    ):
        failure = await failing(app.chat.Complete(request()))

    check(Row("", None, C.UNAVAILABLE, "UPSTREAM_CONNECT_TIMEOUT", DELAY), failure)


async def test_a_peer_without_tls_is_not_retryable():
    """A TLS failure would repeat."""
    async with (
        ScriptedUpstream(
            always(()), on_connect=(Send(b"HTTP/1.1 400 no\r\n\r\n"), Stall()), scheme="https"
        ) as upstream,
        running_app(upstream.base_url) as app,
    ):
        failure = await failing(app.chat.Complete(request()))

    check(Row("", None, C.UNAVAILABLE, "UPSTREAM_TLS_FAILED", NEVER), failure)


async def test_a_provider_that_never_responds_times_out():
    """The failure is not retryable: the work may have been done and billed."""
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        running_app(upstream.base_url, response_timeout_s=0.2, first_token_timeout_s=0.2) as app,
    ):
        unary = await failing(app.chat.Complete(request()))
        _, stream = await collect(app.chat.StreamComplete(request()))

    for failure in (unary, stream):
        check(Row("", None, C.DEADLINE_EXCEEDED, "FIRST_TOKEN_TIMEOUT", NEVER), failure)


async def test_keep_alive_comments_are_not_a_first_token():
    """Comments show only that the connection is alive."""
    comments = [Send(chunk(b": keepalive\n\n"))] * 3
    async with (
        ScriptedUpstream(always((Send(sse_head()), *comments, Stall()))) as upstream,
        running_app(upstream.base_url, first_token_timeout_s=0.3, stream_idle_timeout_s=30) as app,
    ):
        _, failure = await collect(app.chat.StreamComplete(request()))

    check(Row("", None, C.DEADLINE_EXCEEDED, "FIRST_TOKEN_TIMEOUT", NEVER), failure)


async def test_an_idle_stream_times_out():
    """The events received before are kept."""
    script = always((Send(sse_head() + sse_event(openai.chunk("Hi"))), Stall()))
    async with (
        ScriptedUpstream(script) as upstream,
        running_app(upstream.base_url, stream_idle_timeout_s=0.2) as app,
    ):
        events, failure = await collect(app.chat.StreamComplete(request()))

    check(Row("", None, C.DEADLINE_EXCEEDED, "STREAM_IDLE_TIMEOUT", NEVER), failure)
    assert "Hi" == "".join(event.delta.text for event in events)


async def test_a_call_without_a_deadline_has_the_call_timeout():
    """The service bounds the duration of every call."""
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        running_app(upstream.base_url, call_timeout_s=0.2) as app,
    ):
        failure = await failing(app.chat.Complete(request()))

    check(Row("", None, C.DEADLINE_EXCEEDED, "CALL_TIMEOUT", NEVER), failure)


async def test_a_call_ends_before_its_callers_deadline():
    """The status with the reason arrives before the caller's own timer fires."""
    async with ScriptedUpstream(always((Stall(),))) as upstream, running_app(upstream.base_url) as app:
        failure = await failing(app.chat.Complete(request(), metadata=grpc_timeout(2000)))

    check(Row("", None, C.DEADLINE_EXCEEDED, "CALLER_DEADLINE", NONE), failure)


@pytest.mark.parametrize(
    ("script", "limits"),
    [
        (always(http_response(200, b'{"x": "' + b"y" * 5000 + b'"}', {"Content-Type": "application/json"})), {"max_response_bytes": 1024}),
        (always(sse([openai.chunk("x" * 5000)])), {"max_event_bytes": 1024}),
        (always(sse([openai.chunk("x" * 500)] * 20)), {"max_stream_bytes": 4096}),
    ],
    ids=["body", "event", "stream"],
)  # fmt: skip
async def test_a_response_beyond_a_bound_is_rejected(script, limits):
    """A body, event or stream that is too large is INTERNAL, and is not read to its end."""
    async with ScriptedUpstream(script) as upstream, running_app(upstream.base_url, **limits) as app:
        if "max_response_bytes" in limits:
            failure = await failing(app.chat.Complete(request()))
        else:
            _, failure = await collect(app.chat.StreamComplete(request()))

    check(Row("", None, C.INTERNAL, "UPSTREAM_TOO_LARGE", NEVER), failure)


async def test_a_request_beyond_the_bound_is_rejected():
    """The caller must send a smaller request: there is no pushback."""
    async with running_app("http://127.0.0.1:1/v1", max_request_bytes=1024) as app:
        failure = await failing(app.chat.Complete(request("x" * 2000)))

    assert (C.INVALID_ARGUMENT, "REQUEST_TOO_LARGE", None) == (
        failure.code,
        failure.info.reason,
        failure.pushback,
    )


async def test_an_unparsable_message_is_rejected():
    """The status is one of the table, and the next call works."""
    async with (
        ScriptedUpstream(always(error_response(503))) as upstream,
        running_app(upstream.base_url) as app,
    ):
        raw = app.channel.unary_unary("/togetherchat.v1.ChatService/Complete")
        failure = await failing(raw(b"\x0a\xff\xff\xff\xff\x0f"))
        bad_utf8 = await failing(raw(b"\x0a\x02\xff\xfe"))
        after = await failing(app.chat.Complete(request()))

    for seen in (failure, bad_utf8):
        assert (C.INVALID_ARGUMENT, "INVALID_REQUEST") == (seen.code, seen.info.reason)
    assert "UPSTREAM_OVERLOADED" == after.info.reason


async def test_an_invalid_request_lists_all_violations():
    """Validation names every violation with its path."""
    async with running_app("http://127.0.0.1:1/v1") as app:
        failure = await failing(app.chat.Complete(request(temperature=3.0, n=0, model="")))

    assert (C.INVALID_ARGUMENT, "INVALID_REQUEST", None) == (
        failure.code,
        failure.info.reason,
        failure.pushback,
    )
    paths = {violation.field for violation in failure.details["BadRequest"].field_violations}
    assert {"temperature", "n", "model"} == paths


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [((), "MISSING_CREDENTIALS"), ((("authorization", "Basic abc"),), "INVALID_CREDENTIALS")],
)
async def test_a_caller_without_a_valid_key_is_rejected(metadata, reason):
    """With `upstream_credentials=caller`, this happens before the message is read."""
    async with running_app("http://127.0.0.1:1/v1", key=None, upstream_credentials="caller") as app:
        failure = await failing(app.chat.Complete(request(), metadata=metadata))

    assert (C.UNAUTHENTICATED, reason, None) == (failure.code, failure.info.reason, failure.pushback)


async def test_a_rejected_key_of_a_caller_has_its_own_reason():
    """The reason shows that the caller's key was rejected, not the service's."""
    async with (
        ScriptedUpstream(always(error_response(401))) as upstream,
        running_app(upstream.base_url, key=None, upstream_credentials="caller") as app,
    ):
        failure = await failing(
            app.chat.Complete(request(), metadata=[("authorization", f"Bearer {CANARY_KEY}")])
        )

    assert f"Bearer {CANARY_KEY}" == upstream.request_log.requests[0].headers["authorization"]
    check(Row("", None, C.UNAUTHENTICATED, "CALLER_KEY_REJECTED", NONE, ("Help",)), failure)


async def test_a_call_beyond_the_limit_is_rejected():
    """The rejection comes at once, with a delay."""
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        running_app(upstream.base_url, max_concurrent_calls=1) as app,
    ):
        running = app.chat.Complete(request())
        await upstream.received()
        failure = await failing(app.chat.Complete(request()))
        running.cancel()

    assert (C.UNAVAILABLE, "OVERLOADED") == (failure.code, failure.info.reason)
    assert int(failure.pushback) > 0
    assert "RetryInfo" in failure.details


async def test_calls_that_outlast_the_drain_get_a_status():
    """The service ends calls still in flight with DRAINING; gRPC does not cut them off."""
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        running_app(upstream.base_url, drain_timeout_s=0.1) as app,
    ):
        running = asyncio.ensure_future(failing(app.chat.Complete(request())))
        await upstream.received()
        await app.app.stop()
        failure = await running
        await upstream.closed(0)

    assert (C.UNAVAILABLE, "DRAINING") == (failure.code, failure.info.reason)
    assert int(failure.pushback) > 0


async def test_an_event_named_error_is_a_failure():
    """This does not depend on its data."""
    named = Send(sse_head() + chunk(b'event: error\ndata: {"message": "busy", "code": "503"}\n\n'))
    async with ScriptedUpstream(always((named, Stall()))) as upstream, running_app(upstream.base_url) as app:
        _, failure = await collect(app.chat.StreamComplete(request()))

    check(Row("", None, C.UNAVAILABLE, "UPSTREAM_OVERLOADED", DELAY), failure)


async def test_a_json_response_to_a_stream_request_becomes_events():
    """An engine that cannot stream returns JSON: the caller gets the same events."""
    body = openai.completion(usage=openai.usage(1, 1))
    del body["model"]
    async with (
        ScriptedUpstream(always(json_response(200, body))) as upstream,
        running_app(upstream.base_url) as app,
    ):
        events, failure = await collect(app.chat.StreamComplete(request()))

    assert None is failure
    assert ["started", "delta", "choice_finished", "completed"] == [
        event.WhichOneof("event") for event in events
    ]
    assert (MODEL, "Hi") == (events[0].started.model, events[1].delta.text)


async def test_a_connection_is_reused_after_a_stream():
    """The stream was read to its end, so the next call needs no new connection."""
    script = always(sse([openai.chunk("Hi", finish_reason="stop"), openai.DONE]))
    async with ScriptedUpstream(script) as upstream, running_app(upstream.base_url) as app:
        for _ in range(3):
            await collect(app.chat.StreamComplete(request()))

    assert [3] == [len(connection.requests) for connection in upstream.request_log.connections]


async def raising(error, monkeypatch, app):
    """Raise an error in the provider. Return the failures of a unary call and of a stream."""

    async def complete(_self, _request, _call):
        raise error

    async def stream(_self, _request, _call):
        raise error

    monkeypatch.setattr(TogetherProvider, "complete", complete)
    monkeypatch.setattr(TogetherProvider, "stream", stream)
    _, streamed = await collect(app.chat.StreamComplete(request()))
    return await failing(app.chat.Complete(request())), streamed


REPORTED = sorted(set(Reason) - {Reason.CALLER_CANCELLED, Reason.CALLER_STALLED})


async def test_every_reason_reaches_the_caller_as_its_row(monkeypatch):
    """This covers every reason except those of callers that have left."""
    async with running_app("http://127.0.0.1:1/v1") as app:
        for reason in REPORTED:
            for seen in await raising(ServiceError(reason, "the message"), monkeypatch, app):
                assert (CODES[reason], reason.value) == (seen.code, seen.info.reason)
                assert "the message" == seen.message


async def test_the_text_of_an_unexpected_exception_is_not_sent(monkeypatch):
    """The failure is INTERNAL_ERROR with a fixed text, and the service continues."""
    async with running_app("http://127.0.0.1:1/v1") as app:
        failures = await raising(RuntimeError(f"{CANARY_KEY} {CANARY_PROMPT}"), monkeypatch, app)

    for failure in failures:
        assert (C.INTERNAL, "INTERNAL_ERROR", "-1") == (failure.code, failure.info.reason, failure.pushback)
        for secret in (CANARY_KEY, CANARY_PROMPT, "RuntimeError"):
            assert secret not in f"{failure.message}{failure.trailers}{failure.details}"
    assert CANARY_KEY not in app.log.getvalue()


async def test_a_deadline_after_the_last_event_is_not_a_failure(monkeypatch):
    """A stream is OK if and only if `completed` was sent."""
    monkeypatch.setattr(provider, "END_OF_HTTP_S", 5.0)
    steps = (
        Send(sse_head() + sse_event(openai.chunk("Hi", finish_reason="stop")) + sse_event(openai.DONE)),
        Stall(),
    )
    async with ScriptedUpstream(always(steps)) as upstream, running_app(upstream.base_url) as app:
        events, failure = await collect(app.chat.StreamComplete(request(), metadata=grpc_timeout(2000)))

    assert events[-1].HasField("completed")
    assert failure is None
    assert ["OK"] == [record["code"] for record in app.records()]
