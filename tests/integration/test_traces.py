"""Spans of a started service, as a collector gets them."""

import json
import logging
import os
import subprocess
import sys
import time

import pytest

from support.app import CANARY_KEY, CANARY_PROMPT, MODEL, collect, failing, request, running_app, within
from support.collector import (
    CLIENT,
    ERROR,
    SERVER,
    UNSET,
    running_collector,
    telemetry,
    traced_app,
    traced_door,
)
from support.scripted_upstream import ScriptedUpstream, always, in_turn
from support.upstream_script import Fin, Send, Stall, chunk, json_answer, sse, sse_head
from support.waiting import eventually

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
PARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"
STATE = "vendor=one,other=two"
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
SECRET_ANSWER = "canary answer, never to be seen outside"
WHOLE = json_answer(
    200,
    {
        "id": "answer-1",
        "model": "served/model",
        "usage": USAGE,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": SECRET_ANSWER}}],
    },
)
DELTA = {"index": 0, "delta": {"role": "assistant", "content": SECRET_ANSWER}, "finish_reason": None}
EVENT = json.dumps({"id": "answer-1", "model": "served/model", "choices": [DELTA]})
LAST = json.dumps(
    {
        "id": "answer-1",
        "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "length"}],
        "usage": USAGE,
    }
)
STREAM = sse([EVENT, LAST, "[DONE]"])
BUSY = json_answer(503, {"error": {"message": "busy"}})
BAD = json_answer(400, {"error": {"message": "no"}})
BROKEN = json_answer(500, {"error": {"message": "no"}})
HANGING = (Send(sse_head() + chunk(f"data: {EVENT}\n\n".encode())), Stall())


def parent(text=PARENT, state=STATE):
    return [("traceparent", text), ("tracestate", state)]


def told(upstream):
    """What the provider was told of the trace, request by request."""
    return [seen.headers.get("traceparent") for seen in upstream.ledger.requests]


async def test_a_call_is_a_child_of_its_caller_and_its_attempt_of_the_call():
    """One trace from the caller to the provider."""
    async with (
        ScriptedUpstream(always(WHOLE)) as upstream,
        traced_app(upstream.base_url) as (app, collector),
    ):
        began_s = time.time()
        await app.chat.Complete(request(), metadata=parent())
        call, attempt = await collector.seen(2)

    assert began_s - 1 < call.start_ns / 1e9 < time.time() + 1
    assert (SERVER, CLIENT) == (call.kind, attempt.kind)
    assert {TRACE_ID} == {call.trace_id, attempt.trace_id}
    assert (PARENT_ID, call.span_id) == (call.parent_span_id, attempt.parent_span_id)
    assert call.start_ns <= attempt.start_ns <= attempt.end_ns <= call.end_ns
    assert {STATE} == {call.state, attempt.state}


async def test_the_provider_is_told_the_span_of_the_attempt():
    """With it and `tracestate` it can go on with the trace."""
    async with (
        ScriptedUpstream(always(WHOLE)) as upstream,
        traced_app(upstream.base_url) as (app, collector),
    ):
        await app.chat.Complete(request(), metadata=parent())
        _, attempt = await collector.seen(2)
        (seen,) = upstream.ledger.requests

    assert f"00-{TRACE_ID}-{attempt.span_id}-01" == seen.headers["traceparent"]
    assert STATE == seen.headers["tracestate"]


async def test_what_the_spans_of_a_call_say():
    """The conventions for RPC, HTTP and generative AI."""
    async with (
        ScriptedUpstream(always(WHOLE)) as upstream,
        traced_app(upstream.base_url) as (app, collector),
    ):
        asked = request(max_tokens=9, temperature=0.5, seed=3)
        await app.chat.Complete(asked, metadata=[("x-request-id", "order-17")])
        call, attempt = await collector.seen(2)

    assert ("togetherchat.v1.ChatService/Complete", f"chat {MODEL}") == (call.name, attempt.name)
    assert {
        "rpc.system.name": "grpc",
        "rpc.method": "togetherchat.v1.ChatService/Complete",
        "rpc.response.status_code": "OK",
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


async def test_a_stream_says_when_it_began_and_how_it_finished():
    """Its span has the tokens and the reason, as that of a whole answer has."""
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


@pytest.mark.parametrize("answer", [WHOLE, STREAM], ids=["whole", "stream"])
async def test_a_retry_is_a_span_of_its_own(answer):
    """Two attempts, two spans, and the provider hears the id of each."""
    async with (
        ScriptedUpstream(in_turn(BUSY, answer)) as upstream,
        traced_app(upstream.base_url, max_retries=1) as (app, collector),
    ):
        if answer is WHOLE:
            await app.chat.Complete(request())
        else:
            await collect(app.chat.StreamComplete(request()))
        call, first, second = await collector.seen(3)

    assert [f"00-{call.trace_id}-{span.span_id}-01" for span in (first, second)] == told(upstream)
    assert (ERROR, UNSET, UNSET) == (first.status, second.status, call.status)
    assert "UPSTREAM_OVERLOADED" == first.attributes["error.type"]
    assert (503, 200) == tuple(span.attributes["http.response.status_code"] for span in (first, second))
    assert 1 == second.attributes["http.request.resend_count"]
    assert "http.request.resend_count" not in first.attributes


async def test_a_stream_that_ended_before_its_first_event_failed():
    """Where another attempt could have hidden it from the caller, the trace tells it all the same."""
    cut = (Send(sse_head()), Fin())
    async with (
        ScriptedUpstream(always(cut)) as upstream,
        traced_app(upstream.base_url) as (app, collector),
    ):
        _, failure = await collect(app.chat.StreamComplete(request()))
        _, attempt = await collector.seen(2)

    assert ERROR == attempt.status
    assert failure.info.reason == attempt.attributes["error.type"]


async def test_a_failure_of_ours_is_an_error_in_both_spans():
    """With the reason that the caller hears too."""
    async with (
        ScriptedUpstream(always(BROKEN)) as upstream,
        traced_app(upstream.base_url) as (app, collector),
    ):
        failure = await failing(app.chat.Complete(request()))
        call, attempt = await collector.seen(2)

    assert (ERROR, ERROR) == (call.status, attempt.status)
    assert {failure.info.reason} == {span.attributes["error.type"] for span in (call, attempt)}
    assert "INTERNAL" == call.attributes["rpc.response.status_code"]


async def test_a_mistake_of_the_callers_is_no_error_of_the_server():
    """Its code and its reason are there all the same."""
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


async def test_a_call_that_is_refused_has_a_span_and_no_attempt():
    """It never came to one."""
    async with (
        ScriptedUpstream(always(WHOLE)) as upstream,
        traced_app(upstream.base_url, upstream_credentials="caller") as (app, collector),
    ):
        await failing(app.chat.Complete(request(), metadata=parent()))
        (call,) = await collector.seen(1)

    assert (SERVER, PARENT_ID) == (call.kind, call.parent_span_id)
    assert "MISSING_CREDENTIALS" == call.attributes["togetherchat.reason"]


async def test_a_cancelled_stream_ends_its_attempt():
    """Both spans say who ended it."""
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
    """The attempt was given up because the call was."""
    async with (
        ScriptedUpstream(always(HANGING)) as upstream,
        traced_app(upstream.base_url) as (app, collector),
    ):
        await collect(app.chat.StreamComplete(request(), metadata=within(500)))
        call, attempt = await collector.seen(2)

    assert {"CALLER_DEADLINE"} == {span.attributes["error.type"] for span in (call, attempt)}


async def test_the_http_door_continues_a_trace():
    """By the conventions for HTTP."""
    async with (
        ScriptedUpstream(always(WHOLE)) as upstream,
        traced_door(upstream.base_url, headers=dict(parent())) as (door, collector),
    ):
        await door.complete()
        call, attempt = await collector.seen(2)

    assert ("POST /v1/chat/completions", PARENT_ID) == (call.name, call.parent_span_id)
    assert ("POST", 200, "http", "127.0.0.1") == tuple(
        call.attributes[name]
        for name in ("http.request.method", "http.response.status_code", "url.scheme", "server.address")
    )
    assert [f"00-{TRACE_ID}-{attempt.span_id}-01"] == told(upstream)


async def test_a_list_of_models_is_traced_too():
    """Its attempt asks no model."""
    async with (
        ScriptedUpstream(always(json_answer(200, []))) as upstream,
        traced_door(upstream.base_url) as (door, collector),
    ):
        await door.client.get("/v1/models")
        call, attempt = await collector.seen(2)

    assert ("GET /v1/models", "GET models") == (call.name, attempt.name)
    assert not [name for name in attempt.attributes if name.startswith("gen_ai.")]


async def test_a_caller_that_does_not_sample_decides_for_all():
    """No span, and the provider hears that there is none."""
    async with (
        ScriptedUpstream(always(WHOLE)) as upstream,
        traced_app(upstream.base_url) as (app, collector),
    ):
        await app.chat.Complete(request(), metadata=parent(PARENT[:-2] + "00"))

    assert [f"00-{TRACE_ID}-{PARENT_ID}-00"] == told(upstream)
    assert [] == collector.spans


@pytest.mark.parametrize(
    "header", ["nonsense", f"00-{'0' * 32}-{PARENT_ID}-01", f"00-{TRACE_ID}-{'0' * 16}-01", f"ff{PARENT[2:]}"]
)
async def test_what_is_no_trace_begins_a_new_one(header):
    """A caller's mistake must not lose the trace of the call."""
    async with (
        ScriptedUpstream(always(WHOLE)) as upstream,
        traced_app(upstream.base_url) as (app, collector),
    ):
        await app.chat.Complete(request(), metadata=parent(header))
        call, _ = await collector.seen(2)

    assert "" == call.parent_span_id == call.state
    assert call.trace_id not in {TRACE_ID, "0" * 32}


async def test_the_environment_sets_the_sampler():
    """What it leaves out is told to the provider as not sampled."""
    async with (
        ScriptedUpstream(always(WHOLE)) as upstream,
        traced_app(upstream.base_url, environment={"OTEL_TRACES_SAMPLER": "always_off"}) as (app, collector),
    ):
        await app.chat.Complete(request())

    assert [True] == [header.startswith("00-") and header.endswith("-00") for header in told(upstream)]
    assert [] == collector.spans


async def test_the_environment_names_the_service():
    """OTEL_SERVICE_NAME wins over our own."""
    environment = {"OTEL_SERVICE_NAME": "chat-eu", "OTEL_RESOURCE_ATTRIBUTES": "deployment.zone=eu-1"}
    async with (
        ScriptedUpstream(always(WHOLE)) as upstream,
        traced_app(upstream.base_url, environment=environment) as (app, collector),
    ):
        await app.chat.Complete(request())
        call, _ = await collector.seen(2)

    assert ("chat-eu", "eu-1") == (call.resource["service.name"], call.resource["deployment.zone"])


async def test_the_environment_switches_all_off():
    """OTEL_SDK_DISABLED, as everywhere: the caller's trace goes on to the provider as it came."""
    async with (
        ScriptedUpstream(always(WHOLE)) as upstream,
        traced_app(upstream.base_url, environment={"OTEL_SDK_DISABLED": "true"}) as (app, collector),
    ):
        await app.chat.Complete(request(), metadata=parent())

    assert [PARENT] == told(upstream)
    assert [] == collector.spans


async def test_without_traces_the_callers_goes_on_to_the_provider():
    """Who traces around this service still sees one trace."""
    async with ScriptedUpstream(always(WHOLE)) as upstream, running_app(upstream.base_url) as app:
        await app.chat.Complete(request(), metadata=parent())
        (seen,) = upstream.ledger.requests

    assert (PARENT, STATE) == (seen.headers["traceparent"], seen.headers["tracestate"])


async def test_the_log_names_the_trace():
    """From a line of the log to its trace."""
    async with (
        ScriptedUpstream(always(WHOLE)) as upstream,
        traced_app(upstream.base_url) as (app, collector),
    ):
        await app.chat.Complete(request(), metadata=parent())
        await app.chat.Complete(request(), metadata=parent(PARENT[:-2] + "00"))
        await collector.seen(2)

    assert [TRACE_ID, None] == [record.get("trace") for record in app.records()]


async def test_nothing_that_was_said_is_exported():
    """No prompt, no answer, no key and no text of the provider's, in whole answers, streams and failures."""
    leaky = json_answer(500, {"error": {"message": f"{CANARY_PROMPT} {CANARY_KEY}"}})
    async with (
        ScriptedUpstream(in_turn(WHOLE, STREAM, leaky)) as upstream,
        traced_app(upstream.base_url) as (app, collector),
    ):
        asked = request(stop=[CANARY_PROMPT])
        await app.chat.Complete(asked)
        await collect(app.chat.StreamComplete(asked))
        await failing(app.chat.Complete(asked))
        await collector.seen(6)

    sent = b"".join(collector.exports)
    assert [] == [word for word in ("canary", CANARY_KEY, "secret", "Bearer") if word.encode() in sent]


async def test_a_collector_that_dies_costs_no_call_and_one_line(caplog):
    """Its spans are lost and counted; what the SDK would say of every batch is not said."""
    async with ScriptedUpstream(always(WHOLE)) as upstream, running_collector() as collector:
        environment = {"OTEL_EXPORTER_OTLP_TIMEOUT": "0.2"}
        with telemetry(collector.port, **environment), caplog.at_level(logging.INFO):
            async with running_app(upstream.base_url, traces="otlp") as app:
                await app.chat.Complete(request())
                await collector.seen(2)
                await collector.server.stop(None)
                for _ in range(3):
                    await app.chat.Complete(request())
                gauges = app.gauges
                await eventually(lambda: gauges["trace_spans_lost"]() == 6)

    said = [record.getMessage() for record in caplog.records if "trace" in record.name]
    assert ["the collector of traces takes no spans; they are dropped until it does"] == said
    assert [] == [record for record in caplog.records if record.name.startswith("opentelemetry")]
    assert (8, 2) == (gauges["trace_spans_made"](), gauges["trace_spans_exported"]())


async def test_a_collector_that_hangs_holds_the_end_for_a_second_at_most():
    """The drain has its own bound, whatever a collector does."""
    async with ScriptedUpstream(always(WHOLE)) as upstream, running_collector(hangs=True) as collector:
        with telemetry(collector.port, OTEL_EXPORTER_OTLP_TIMEOUT="60"):
            async with running_app(upstream.base_url, traces="otlp") as app:
                await app.chat.Complete(request())
                await eventually(lambda: collector.exports)
                began_s = time.monotonic()
                await app.app.stop()
                took_s = time.monotonic() - began_s

    # The SDK alone would wait for half a minute.
    assert 20 > took_s


async def test_a_full_queue_makes_no_call_wait():
    """With a collector that hangs and room for one span, calls are answered, and the rest is dropped."""
    small = {"OTEL_BSP_MAX_QUEUE_SIZE": "1", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1"}
    async with ScriptedUpstream(always(WHOLE)) as upstream, running_collector(hangs=True) as collector:
        with telemetry(collector.port, **small):
            async with running_app(upstream.base_url, traces="otlp") as app:
                for _ in range(20):
                    await app.chat.Complete(request())
                made = app.gauges["trace_spans_made"]()

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


def test_off_loads_nothing_of_it():
    """Whoever traces nothing pays for nothing: a call is served without a module of OpenTelemetry."""
    served = subprocess.run(
        [sys.executable, "-c", SERVE_ONE_CALL],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )

    assert "[]" == served.stdout.strip()
