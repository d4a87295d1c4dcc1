"""Spans of a running service, as a collector receives them."""

import logging
import os
import subprocess
import sys
import time

import pytest

from support import openai
from support.app import CANARY_KEY, CANARY_PROMPT, MODEL, collect, failing, grpc_timeout, request, running_app
from support.collector import (
    CLIENT,
    ERROR,
    SERVER,
    UNSET,
    running_collector,
    telemetry,
    traced_app,
    traced_http,
)
from support.scripted_upstream import ScriptedUpstream, always, in_turn
from support.upstream_script import Fin, Send, Stall, json_response, sse, sse_event, sse_head
from support.waiting import eventually
from togetherchat_server.telemetry.metrics import definitions as names

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
PARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"
STATE = "vendor=one,other=two"
STATES = ("made", "exported", "lost")
SECRET_TEXT = "canary completion, never to be exported"
SERVED = {"id": "answer-1", "model": "served/model"}
UNARY = json_response(200, openai.completion(SECRET_TEXT, usage=openai.usage(5, 7), **SERVED))
EVENT = openai.chunk(SECRET_TEXT, **SERVED)
LAST = openai.chunk("", finish_reason="length", usage=openai.usage(5, 7), **SERVED)
STREAM = sse([EVENT, LAST, openai.DONE])
BUSY = json_response(503, {"error": {"message": "busy"}})
BAD = json_response(400, {"error": {"message": "no"}})
BROKEN = json_response(500, {"error": {"message": "no"}})
HANGING = (Send(sse_head() + sse_event(EVENT)), Stall())


def parent(text=PARENT, state=STATE):
    return [("traceparent", text), ("tracestate", state)]


def sent_traceparents(upstream):
    """The `traceparent` header of each request to the provider."""
    return [seen.headers.get("traceparent") for seen in upstream.request_log.requests]


async def test_the_call_is_a_child_of_its_caller_and_the_attempt_of_the_call():
    """One trace from the caller to the provider."""
    async with (
        ScriptedUpstream(always(UNARY)) as upstream,
        traced_app(upstream.base_url) as (app, collector),
    ):
        started_s = time.time()
        await app.chat.Complete(request(), metadata=parent())
        call, attempt = await collector.seen(2)

    assert started_s - 1 < call.start_ns / 1e9 < time.time() + 1
    assert (SERVER, CLIENT) == (call.kind, attempt.kind)
    assert {TRACE_ID} == {call.trace_id, attempt.trace_id}
    assert (PARENT_ID, call.span_id) == (call.parent_span_id, attempt.parent_span_id)
    assert call.start_ns <= attempt.start_ns <= attempt.end_ns <= call.end_ns
    assert {STATE} == {call.state, attempt.state}


async def test_the_request_to_the_provider_has_the_span_of_the_attempt():
    """With it and `tracestate` the provider can continue the trace."""
    async with (
        ScriptedUpstream(always(UNARY)) as upstream,
        traced_app(upstream.base_url) as (app, collector),
    ):
        await app.chat.Complete(request(), metadata=parent())
        _, attempt = await collector.seen(2)
        (seen,) = upstream.request_log.requests

    assert f"00-{TRACE_ID}-{attempt.span_id}-01" == seen.headers["traceparent"]
    assert STATE == seen.headers["tracestate"]


async def test_spans_have_the_attributes_of_the_conventions():
    """Those for RPC, HTTP and generative AI."""
    async with (
        ScriptedUpstream(always(UNARY)) as upstream,
        traced_app(upstream.base_url) as (app, collector),
    ):
        message = request(max_tokens=9, temperature=0.5, seed=3)
        await app.chat.Complete(message, metadata=[("x-request-id", "order-17")])
        call, attempt = await collector.seen(2)

    assert ("togetherchat.v1.ChatService/Complete", f"chat {MODEL}") == (call.name, attempt.name)
    assert {
        "rpc.system.name": "grpc",
        "rpc.method": "togetherchat.v1.ChatService/Complete",
        "rpc.response.status_code": "OK",
        "client.address": "127.0.0.1",
        "server.address": "127.0.0.1",
        "togetherchat.request_id": "order-17",
        "togetherchat.attempts": 1,
        "togetherchat.model": MODEL,
        "togetherchat.queued_s": 0.0,
    } == call.attributes
    assert {
        "server.address": "127.0.0.1",
        "server.port": upstream.port,
        "url.full": f"{upstream.base_url}/chat/completions",
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "together",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.stream": False,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.seed": 3,
        "gen_ai.response.id": "answer-1",
        "gen_ai.response.model": "served/model",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 7,
    } == attempt.attributes
    assert ("togetherchat", "0.0.0") == (call.resource["service.name"], call.resource["service.version"])


async def test_the_span_of_a_stream_has_its_first_chunk_and_its_end():
    """Time to the first chunk, tokens and finish reason."""
    async with (
        ScriptedUpstream(always(STREAM)) as upstream,
        traced_app(upstream.base_url) as (app, collector),
    ):
        await collect(app.chat.StreamComplete(request()))
        call, attempt = await collector.seen(2)

    assert "togetherchat.v1.ChatService/StreamComplete" == call.name
    assert (UNSET, UNSET) == (call.status, attempt.status)
    assert True is attempt.attributes["gen_ai.request.stream"]
    assert ["length"] == attempt.attributes["gen_ai.response.finish_reasons"]
    assert 7 == attempt.attributes["gen_ai.usage.output_tokens"]
    first_s = attempt.attributes["gen_ai.response.time_to_first_chunk"]
    assert 0 <= first_s <= (attempt.end_ns - attempt.start_ns) / 1e9


@pytest.mark.parametrize("response", [UNARY, STREAM], ids=["unary", "stream"])
async def test_a_retry_is_a_span_of_its_own(response):
    """Two attempts, two spans, and the provider receives the id of each."""
    async with (
        ScriptedUpstream(in_turn(BUSY, response)) as upstream,
        traced_app(upstream.base_url, max_retries=1) as (app, collector),
    ):
        if response is UNARY:
            await app.chat.Complete(request())
        else:
            await collect(app.chat.StreamComplete(request()))
        call, first, second = await collector.seen(3)

    assert [f"00-{call.trace_id}-{span.span_id}-01" for span in (first, second)] == sent_traceparents(
        upstream
    )
    assert (ERROR, UNSET, UNSET) == (first.status, second.status, call.status)
    assert "UPSTREAM_OVERLOADED" == first.attributes["error.type"]
    assert (503, 200) == tuple(span.attributes["http.response.status_code"] for span in (first, second))
    assert 1 == second.attributes["http.request.resend_count"]
    assert "http.request.resend_count" not in first.attributes


async def test_a_stream_that_ends_before_its_first_event_is_a_failed_attempt():
    """Although a retry could have hidden it from the caller."""
    cut = (Send(sse_head()), Fin())
    async with (
        ScriptedUpstream(always(cut)) as upstream,
        traced_app(upstream.base_url) as (app, collector),
    ):
        _, failure = await collect(app.chat.StreamComplete(request()))
        _, attempt = await collector.seen(2)

    assert ERROR == attempt.status
    assert failure.info.reason == attempt.attributes["error.type"]


async def test_a_failure_of_the_service_is_an_error_in_both_spans():
    """With the reason that the caller receives."""
    async with (
        ScriptedUpstream(always(BROKEN)) as upstream,
        traced_app(upstream.base_url) as (app, collector),
    ):
        failure = await failing(app.chat.Complete(request()))
        call, attempt = await collector.seen(2)

    assert (ERROR, ERROR) == (call.status, attempt.status)
    assert {failure.info.reason} == {span.attributes["error.type"] for span in (call, attempt)}
    assert "INTERNAL" == call.attributes["rpc.response.status_code"]


async def test_a_mistake_of_the_caller_is_not_an_error_of_the_server():
    """The span has the code and the reason nevertheless."""
    async with (
        ScriptedUpstream(always(BAD)) as upstream,
        traced_app(upstream.base_url) as (app, collector),
    ):
        await failing(app.chat.Complete(request()))
        call, attempt = await collector.seen(2)

    assert (UNSET, ERROR) == (call.status, attempt.status)
    assert "INVALID_ARGUMENT" == call.attributes["rpc.response.status_code"]
    assert "UPSTREAM_INVALID_REQUEST" == call.attributes["togetherchat.reason"]
    assert "error.type" not in call.attributes


async def test_a_rejected_call_has_a_span_without_an_attempt():
    """The span has the reason."""
    async with (
        ScriptedUpstream(always(UNARY)) as upstream,
        traced_app(upstream.base_url, upstream_credentials="caller") as (app, collector),
    ):
        await failing(app.chat.Complete(request(), metadata=parent()))
        (call,) = await collector.seen(1)

    assert (SERVER, PARENT_ID) == (call.kind, call.parent_span_id)
    assert "MISSING_CREDENTIALS" == call.attributes["togetherchat.reason"]


async def test_a_cancelled_stream_ends_its_attempt():
    """Both spans have the reason CALLER_CANCELLED."""
    async with (
        ScriptedUpstream(always(HANGING)) as upstream,
        traced_app(upstream.base_url) as (app, collector),
    ):
        call = app.chat.StreamComplete(request())
        await call.read()
        call.cancel()
        ended, attempt = await collector.seen(2)

    assert "CALLER_CANCELLED" == ended.attributes["togetherchat.reason"]
    assert (ERROR, "CALLER_CANCELLED") == (attempt.status, attempt.attributes["error.type"])
    assert attempt.end_ns <= ended.end_ns


async def test_a_deadline_within_a_stream_ends_its_attempt():
    """The attempt has the reason of the call."""
    async with (
        ScriptedUpstream(always(HANGING)) as upstream,
        traced_app(upstream.base_url) as (app, collector),
    ):
        await collect(app.chat.StreamComplete(request(), metadata=grpc_timeout(2000)))
        call, attempt = await collector.seen(2)

    assert {"CALLER_DEADLINE"} == {span.attributes["error.type"] for span in (call, attempt)}


async def test_an_http_call_continues_a_trace():
    """With the attributes of the conventions for HTTP."""
    async with (
        ScriptedUpstream(always(UNARY)) as upstream,
        traced_http(upstream.base_url, headers=dict(parent())) as (http, collector),
    ):
        await http.complete()
        call, attempt = await collector.seen(2)

    assert ("POST /v1/chat/completions", PARENT_ID) == (call.name, call.parent_span_id)
    assert ("POST", 200, "http", "127.0.0.1") == tuple(
        call.attributes[name]
        for name in ("http.request.method", "http.response.status_code", "url.scheme", "server.address")
    )
    assert [f"00-{TRACE_ID}-{attempt.span_id}-01"] == sent_traceparents(upstream)


async def test_a_list_of_models_is_traced_too():
    """Its attempt names no model."""
    async with (
        ScriptedUpstream(always(json_response(200, []))) as upstream,
        traced_http(upstream.base_url) as (http, collector),
    ):
        await http.client.get("/v1/models")
        call, attempt = await collector.seen(2)

    assert ("GET /v1/models", "GET models") == (call.name, attempt.name)
    assert not [name for name in attempt.attributes if name.startswith("gen_ai.")]


async def test_the_sampling_decision_of_the_caller_is_followed():
    """An unsampled call has no span, and the provider receives flag 00."""
    async with (
        ScriptedUpstream(always(UNARY)) as upstream,
        traced_app(upstream.base_url) as (app, collector),
    ):
        await app.chat.Complete(request(), metadata=parent(PARENT[:-2] + "00"))

    assert [f"00-{TRACE_ID}-{PARENT_ID}-00"] == sent_traceparents(upstream)
    assert [] == collector.spans


@pytest.mark.parametrize(
    "header", ["nonsense", f"00-{'0' * 32}-{PARENT_ID}-01", f"00-{TRACE_ID}-{'0' * 16}-01", f"ff{PARENT[2:]}"]
)
async def test_a_malformed_traceparent_starts_a_new_trace(header):
    """A caller's mistake must not lose the trace of the call."""
    async with (
        ScriptedUpstream(always(UNARY)) as upstream,
        traced_app(upstream.base_url) as (app, collector),
    ):
        await app.chat.Complete(request(), metadata=parent(header))
        call, _ = await collector.seen(2)

    assert "" == call.parent_span_id == call.state
    assert call.trace_id not in {TRACE_ID, "0" * 32}


async def test_the_environment_sets_the_sampler():
    """An unsampled call is sent to the provider with flag 00."""
    async with (
        ScriptedUpstream(always(UNARY)) as upstream,
        traced_app(upstream.base_url, environment={"OTEL_TRACES_SAMPLER": "always_off"}) as (app, collector),
    ):
        await app.chat.Complete(request())

    assert [True] == [
        header.startswith("00-") and header.endswith("-00") for header in sent_traceparents(upstream)
    ]
    assert [] == collector.spans


async def test_the_environment_names_the_service():
    """OTEL_SERVICE_NAME overrides our default."""
    environment = {"OTEL_SERVICE_NAME": "chat-eu", "OTEL_RESOURCE_ATTRIBUTES": "deployment.zone=eu-1"}
    async with (
        ScriptedUpstream(always(UNARY)) as upstream,
        traced_app(upstream.base_url, environment=environment) as (app, collector),
    ):
        await app.chat.Complete(request())
        call, _ = await collector.seen(2)

    assert ("chat-eu", "eu-1") == (call.resource["service.name"], call.resource["deployment.zone"])


async def test_the_environment_disables_tracing():
    """With OTEL_SDK_DISABLED the caller's headers are sent to the provider unchanged."""
    async with (
        ScriptedUpstream(always(UNARY)) as upstream,
        traced_app(upstream.base_url, environment={"OTEL_SDK_DISABLED": "true"}) as (app, collector),
    ):
        await app.chat.Complete(request(), metadata=parent())

    assert [PARENT] == sent_traceparents(upstream)
    assert [] == collector.spans


async def test_without_tracing_the_callers_trace_is_passed_on():
    """The headers are sent to the provider unchanged."""
    async with ScriptedUpstream(always(UNARY)) as upstream, running_app(upstream.base_url) as app:
        await app.chat.Complete(request(), metadata=parent())
        (seen,) = upstream.request_log.requests

    assert (PARENT, STATE) == (seen.headers["traceparent"], seen.headers["tracestate"])


async def test_the_log_names_the_trace():
    """The line of an unsampled call names none."""
    async with (
        ScriptedUpstream(always(UNARY)) as upstream,
        traced_app(upstream.base_url) as (app, collector),
    ):
        await app.chat.Complete(request(), metadata=parent())
        await app.chat.Complete(request(), metadata=parent(PARENT[:-2] + "00"))
        await collector.seen(2)

    assert [TRACE_ID, None] == [record.get("trace") for record in app.records()]


async def test_no_content_is_exported():
    """No prompt, completion, key or text of the provider, in unary calls, streams and failures."""
    leaking = json_response(500, {"error": {"message": f"{CANARY_PROMPT} {CANARY_KEY}"}})
    async with (
        ScriptedUpstream(in_turn(UNARY, STREAM, leaking)) as upstream,
        traced_app(upstream.base_url) as (app, collector),
    ):
        message = request(stop=[CANARY_PROMPT])
        await app.chat.Complete(message)
        await collect(app.chat.StreamComplete(message))
        await failing(app.chat.Complete(message))
        await collector.seen(6)

    sent = b"".join(collector.exports)
    assert [] == [word for word in ("canary", CANARY_KEY, "secret", "Bearer") if word.encode() in sent]


async def test_an_outage_of_the_collector_fails_no_call_and_logs_one_line(caplog):
    """Lost spans are counted; the SDK's message for every batch is suppressed."""
    async with ScriptedUpstream(always(UNARY)) as upstream, running_collector() as collector:
        environment = {"OTEL_EXPORTER_OTLP_TIMEOUT": "2"}
        with telemetry(collector.port, **environment), caplog.at_level(logging.INFO):
            async with running_app(upstream.base_url, traces="otlp") as app:
                spans = {state: app.metrics.counters[names.TRACE_SPANS, state] for state in STATES}
                await app.chat.Complete(request())
                await eventually(lambda: spans["exported"]() == 2)
                await collector.server.stop(None)
                for _ in range(3):
                    await app.chat.Complete(request())
                await eventually(lambda: spans["lost"]() == 6)

    logged = [record.getMessage() for record in caplog.records if record.name.endswith(".tracing")]
    assert ["the trace collector accepts no spans; they are dropped until it does"] == logged
    assert [] == [record for record in caplog.records if record.name.startswith("opentelemetry")]
    assert (8, 2) == (spans["made"](), spans["exported"]())


async def test_a_hanging_collector_delays_the_stop_by_a_second_at_most():
    """The drain has its own bound."""
    async with ScriptedUpstream(always(UNARY)) as upstream, running_collector(hangs=True) as collector:
        with telemetry(collector.port, OTEL_EXPORTER_OTLP_TIMEOUT="60"):
            async with running_app(upstream.base_url, traces="otlp") as app:
                await app.chat.Complete(request())
                await eventually(lambda: collector.exports)
                started_s = time.monotonic()
                await app.app.stop()
                took_s = time.monotonic() - started_s

    # The SDK alone would wait for half a minute.
    assert 20 > took_s


async def test_a_full_queue_delays_no_call():
    """With a hanging collector and a queue of one span, calls succeed and the other spans are dropped."""
    small = {"OTEL_BSP_MAX_QUEUE_SIZE": "1", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1"}
    async with ScriptedUpstream(always(UNARY)) as upstream, running_collector(hangs=True) as collector:
        with telemetry(collector.port, **small):
            async with running_app(upstream.base_url, traces="otlp") as app:
                for _ in range(20):
                    await app.chat.Complete(request())
                made = app.metrics.counters[names.TRACE_SPANS, "made"]()

    assert (40, 1) == (made, len(collector.exports))


SERVE_ONE_CALL = """
import asyncio, sys
from support.app import request, running_app

async def main():
    async with running_app(http_listen="127.0.0.1:0") as app:
        await app.chat.Complete(request())

asyncio.run(main())
print(sorted(name for name in sys.modules if name.partition(".")[0] == "opentelemetry"))
"""


def test_without_tracing_opentelemetry_is_not_imported():
    """A call is served without any of its modules."""
    served = subprocess.run(
        [sys.executable, "-c", SERVE_ONE_CALL],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )

    assert "[]" == served.stdout.strip()
