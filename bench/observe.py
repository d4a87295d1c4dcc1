"""Measures the cost of telemetry: counting a call, its log line, its spans, and one scrape.

    python -m bench.observe

CPU time of this process, the best of several rounds. For comparison a log line is also measured
without structlog: its JSON, and the queue to the thread that writes it.
"""

import asyncio
import importlib
import importlib.util
import io
import itertools
import logging
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any, Final

import orjson

from togetherchat_server.config import LogFormat
from togetherchat_server.domain.call import Call
from togetherchat_server.domain.reasons import Reason
from togetherchat_server.domain.trace_context import SAMPLED, SpanContext
from togetherchat_server.telemetry.call_record import CallRecord
from togetherchat_server.telemetry.log import CallLog, formatter
from togetherchat_server.telemetry.log_writer import Format, LogEntry, LogWriter
from togetherchat_server.telemetry.metrics.collector import MetricsCollector, ProcessInfo
from togetherchat_server.telemetry.metrics.exposition import exposition
from togetherchat_server.telemetry.semconv import ListenerAttributes

ROUNDS: Final = 7
MODELS: Final = tuple(f"organization/model-{number}-Instruct-Turbo" for number in range(50))
TENANTS: Final = tuple(f"tenant-{number}" for number in range(20))
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0"
RECORD: Final = CallRecord(
    id="0123456789abcdef0123456789abcdef",
    protocol="grpc",
    method="/togetherchat.v1.ChatService/StreamComplete",
    code="OK",
    reason="",
    phase="responding",
    model=MODELS[0],
    upstream="together",
    upstream_request_id="oid-0123456789",
    attempts=1,
    previous_attempts=0,
    queued_s=0.0,
    duration_s=1.23456789,
    first_token_s=0.2345678,
    messages_sent=102,
    prompt_tokens=30,
    completion_tokens=100,
    usage_estimated=False,
    cost_nano_usd=12345,
    rate_limits=(("x-ratelimit-limit", "100"), ("x-ratelimit-remaining", "99")),
)

CALL: Final = Call(
    id=RECORD.id,
    method=RECORD.method,
    received_s=0.0,
    deadline_s=600.0,
    deadline_reason=Reason.CALL_TIMEOUT,
    upstream_key=None,
)


def microseconds(
    action: Callable[[], object], times: int, *, clock: Callable[[], float] = time.process_time
) -> float:
    """Return the CPU time of one action, in the best round."""

    def one_round() -> float:
        started_s = clock()
        for _ in range(times):
            action()
        return (clock() - started_s) / times * 1e6

    return min(one_round() for _ in range(ROUNDS))


def collector() -> MetricsCollector:
    info = ProcessInfo(version="0", max_concurrent_calls=1, wall_clock=time.time)
    return MetricsCollector(info, ready=lambda: True)


def counting() -> float:
    sink = collector().sink(models=MODELS)
    return microseconds(lambda: sink(RECORD), 20_000)


def log_line(log_format: LogFormat) -> float:
    """Include the CPU time of the thread that writes."""
    with writing(formatter(log_format, terminal=False)) as writer:
        log = CallLog(writer)
        return microseconds(lambda: log(RECORD), 5_000)


def line_without_structlog() -> float:
    names = [field.name for field in fields(RECORD)]

    def text(_entry: LogEntry) -> str:
        values: dict[str, object] = {}
        for name in names:
            value: object = getattr(RECORD, name)
            if value is not None and value != "":
                values[name] = round(value, 4) if isinstance(value, float) else value
        return orjson.dumps(values).decode()

    with writing(text) as writer:
        return microseconds(lambda: writer.write(LogEntry(level=logging.INFO)), 5_000)


@contextmanager
def writing(line_of: Format) -> Generator[LogWriter[LogEntry]]:
    writer = LogWriter(io.StringIO(), line_of, lines_max=10**9)
    yield writer
    writer.close()


def traced(*, sampled: bool) -> float | None:
    """Measure the loop's part of a call with one attempt. The exporting thread finds no collector here."""
    if importlib.util.find_spec("opentelemetry.sdk") is None:
        return None
    trace: Any = importlib.import_module("togetherchat_server.telemetry.tracing")
    spans = trace.OtlpSpans(
        base_url="http://127.0.0.1/v1",
        listeners=ListenerAttributes.of(grpc="127.0.0.1:50051", http=None, tls=False, hostname=""),
        version="0",
        clock=time.monotonic,
        wall_clock=time.time,
    )
    parent = SpanContext(trace_id=1, span_id=1, flags=SAMPLED if sampled else 0)

    def one() -> None:
        _, call_trace = spans.begin(parent)
        if call_trace is not None:
            attempt = call_trace.attempt(http_method="POST", path="chat/completions", started_s=1.0)
            attempt.model, attempt.upstream, attempt.ended_s = RECORD.model, RECORD.upstream, 2.0
            attempt.usage = {"prompt_tokens": 30, "completion_tokens": 100}
            spans.end(replace(CALL, trace=call_trace), RECORD)

    cost = microseconds(one, 2_000, clock=time.thread_time)
    asyncio.run(spans.aclose())
    return cost


async def scrape(accept: str) -> tuple[int, int, float, float]:
    """Return lines, bytes, total CPU seconds, and the longest CPU time for which the loop was blocked."""
    metrics = collector()
    sink = metrics.sink(models=MODELS)
    for model in MODELS:
        for tenant in TENANTS:
            for code, reason in (("OK", ""), ("UNAVAILABLE", "UPSTREAM_RESET")):
                sink(replace(RECORD, model=model, tenant=tenant, code=code, reason=reason))
    loop_times = [time.process_time()]
    watching = asyncio.create_task(watch(loop_times))
    started_s = time.process_time()
    _, body = await exposition(metrics.snapshot(), accept)
    spent_s = time.process_time() - started_s
    watching.cancel()
    longest_s = max(after - before for before, after in itertools.pairwise(loop_times))
    return body.count(b"\n"), len(body), spent_s, longest_s


async def watch(loop_times: list[float]) -> None:
    while True:
        loop_times.append(time.process_time())
        await asyncio.sleep(0)


def report() -> Iterator[str]:
    yield f"counting one record       {counting():6.1f} us"
    yield f"a log line, JSON          {log_line('json'):6.1f} us"
    yield f"the same, no structlog    {line_without_structlog():6.1f} us"
    yield f"a log line, text          {log_line('text'):6.1f} us"
    for sampled in (False, True):
        cost = traced(sampled=sampled)
        name = "spans, sampled           " if sampled else "spans, not sampled       "
        yield (
            f"{name} {cost:6.1f} us"
            if cost
            else "OpenTelemetry is not installed: pip install -r requirements/telemetry.txt"
        )
    for accept in ("text/plain", OPENMETRICS):
        scrapes = (asyncio.run(scrape(accept)) for _ in range(ROUNDS))
        lines, size, spent_s, longest_s = min(scrapes, key=lambda result: result[2])
        yield (
            f"{accept.partition(';')[0]}, {len(MODELS)} models, {len(TENANTS)} tenants: {lines} lines, "
            f"{size / 1024:.0f} KiB in {spent_s * 1e3:.0f} ms of CPU, {longest_s * 1e3:.1f} ms at a time"
        )


if __name__ == "__main__":
    for text in report():
        sys.stdout.write(text + "\n")
