"""Sends spans of calls and their attempts to a collector, through OpenTelemetry's SDK.

The only module that imports OpenTelemetry; `--traces otlp` loads it. Everything that it can export
is in `CallRecord` and `AttemptTrace`, which hold no text of callers or models and no key.

All spans of a call are made when the call has ended. That costs less than spans that live beside
the call, and no span can leak. Only the ids, and whether the call is sampled, are decided when the
call begins. `semconv` defines the names and attributes.

The SDK exports on a thread of its own, from a bounded queue. Its logging is switched off, because
it would repeat a message for every batch. This module logs one message per outage.
"""

import asyncio
import logging
import os
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Final, final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)
from opentelemetry.trace import SpanContext as SdkContext

from togetherchat_server.domain.call import Call
from togetherchat_server.domain.trace_context import RANDOM, SAMPLED, CallTrace, SpanContext
from togetherchat_server.telemetry.call_record import CallRecord
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.definitions import Key
from togetherchat_server.telemetry.semconv import (
    Attributes,
    ListenerAttributes,
    ProviderAttributes,
    attempt_attributes,
    attempt_name,
    call_attributes,
    call_name,
)

SERVICE: Final = "togetherchat"
FLUSH_TIMEOUT_S: Final = 0.8
"""How long a stopping process waits for the export of the spans in the queue."""
SHUTDOWN_TIMEOUT_S: Final = 0.2
"""How long it then waits for the export to stop. Both together are the drain's last second."""
POLL_S: Final = 0.01
NO_PARENT: Final = Context()

_log = logging.getLogger(__name__)


@final
class SpanCounter(SpanExporter):
    """Counts exported and lost spans, and logs the start and the end of an outage of the collector."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._failing = False
        self.exported = 0
        self.lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            self._count(len(spans), exported=result is SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def _count(self, count: int, *, exported: bool) -> None:
        if exported:
            self.exported += count
        else:
            self.lost += count
        if exported is not self._failing:
            return
        self._failing = not exported
        if exported:
            _log.warning("the trace collector accepts spans again; %d were lost", self.lost)
        else:
            _log.warning("the trace collector accepts no spans; they are dropped until it does")


@final
class OtlpSpans:
    """Implements `Spans` with the SDK, which reads the standard OTEL_* variables itself."""

    def __init__(
        self,
        *,
        base_url: str,
        listeners: ListenerAttributes,
        version: str,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        """Silence the SDK's loggers until `aclose`."""
        self._sdk_log = logging.getLogger("opentelemetry")
        self._sdk_log_level = self._sdk_log.level
        self._sdk_log.setLevel(logging.CRITICAL + 1)
        # Only its sampler, id generator and resource are used, as the environment configures them.
        provider = TracerProvider(resource=_resource(version), shutdown_on_exit=False)
        self._sampler = provider.sampler
        self._ids = provider.id_generator
        self._resource = provider.resource
        self._scope = InstrumentationScope(SERVICE, version)
        self._provider = ProviderAttributes.of(base_url)
        self._listeners = listeners
        self._clock = clock
        self._wall_clock = wall_clock
        self._spans_made = 0
        self._counter = SpanCounter(OTLPSpanExporter())
        self._queue = BatchSpanProcessor(self._counter)

    @property
    def counters(self) -> Mapping[Key, Callable[[], float]]:
        """Spans made, exported, and lost. The others are queued, or did not fit into the queue."""
        return {
            (names.TRACE_SPANS, "made"): lambda: self._spans_made,
            (names.TRACE_SPANS, "exported"): lambda: self._counter.exported,
            (names.TRACE_SPANS, "lost"): lambda: self._counter.lost,
        }

    def begin(self, parent: SpanContext | None) -> tuple[SpanContext, CallTrace | None]:
        trace_id = parent.trace_id if parent else self._ids.generate_trace_id()
        result = self._sampler.should_sample(_parent_context(parent), trace_id, SERVICE, SpanKind.SERVER)
        if not result.decision.is_sampled():
            # Without a span of ours, the provider's spans are children of the caller's, also unsampled.
            span_id = parent.span_id if parent else self._ids.generate_span_id()
            return _context(parent, trace_id, span_id, sampled=False), None
        span = _context(parent, trace_id, self._ids.generate_span_id(), sampled=True)
        return span, CallTrace(span, parent=parent, new_span_id=self._ids.generate_span_id)

    def end(self, call: Call, record: CallRecord) -> None:
        trace = call.trace
        if trace is None:
            return
        ended_s = call.received_s + record.duration_s
        # One clock difference for all spans of a call, so that their relative times are exact.
        wall_s = self._wall_clock() - self._clock()
        state = _state(trace.span)
        call_context = _sdk(trace.span, state)
        for number, attempt in enumerate(trace.attempts):
            self._emit(
                attempt_name(attempt),
                SpanKind.CLIENT,
                (_sdk(attempt.span, state), call_context),
                attempt_attributes(attempt, number, self._provider, record),
                (attempt.started_s + wall_s, (attempt.ended_s or ended_s) + wall_s),
            )
        parent = _sdk(trace.parent, state, remote=True) if trace.parent else None
        self._emit(
            call_name(record),
            SpanKind.SERVER,
            (call_context, parent),
            call_attributes(record, self._listeners),
            (call.received_s + wall_s, ended_s + wall_s),
        )

    async def aclose(self) -> None:
        """Export the queue within a second; spans that the collector has not accepted by then are lost."""
        # A daemon thread, because a hanging thread of the loop's pool would keep the process alive.
        flush = threading.Thread(target=self._queue.shutdown, name="traces", daemon=True)
        flush.start()
        if not await _ended(flush, self._clock, FLUSH_TIMEOUT_S):
            self._counter.shutdown()
            await _ended(flush, self._clock, SHUTDOWN_TIMEOUT_S)
        self._sdk_log.setLevel(self._sdk_log_level)

    def _emit(
        self,
        name: str,
        kind: SpanKind,
        contexts: tuple[SdkContext, SdkContext | None],
        attributes: Attributes,
        times_s: tuple[float, float],
    ) -> None:
        self._spans_made += 1
        started_s, ended_s = times_s
        failed = "error.type" in attributes
        self._queue.on_end(
            ReadableSpan(
                name=name,
                context=contexts[0],
                parent=contexts[1],
                kind=kind,
                resource=self._resource,
                instrumentation_scope=self._scope,
                attributes=attributes,
                status=_FAILED if failed else _UNSET,
                start_time=int(started_s * 1e9),
                end_time=int(ended_s * 1e9),
            )
        )


_UNSET: Final = Status()
_FAILED: Final = Status(StatusCode.ERROR)


def open_spans(
    *,
    base_url: str,
    listeners: ListenerAttributes,
    version: str,
    clock: Callable[[], float],
    wall_clock: Callable[[], float],
) -> OtlpSpans | None:
    """Return the maker of spans; None if OTEL_SDK_DISABLED is set."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    return OtlpSpans(
        base_url=base_url, listeners=listeners, version=version, clock=clock, wall_clock=wall_clock
    )


def _resource(version: str) -> Resource:
    """Return the resource of the spans: our defaults, overridden by the environment."""
    defaults = {
        "service.name": SERVICE,
        "service.version": version,
        "service.instance.id": str(uuid.uuid4()),
    }
    return Resource.create({**defaults, **OTELResourceDetector().detect().attributes})


def _context(parent: SpanContext | None, trace_id: int, span_id: int, *, sampled: bool) -> SpanContext:
    return SpanContext(
        trace_id=trace_id,
        span_id=span_id,
        flags=(parent.flags & RANDOM if parent else 0) | (SAMPLED if sampled else 0),
        state=parent.state if parent else "",
    )


def _parent_context(parent: SpanContext | None) -> Context:
    """Return the parent in the form that samplers expect."""
    if parent is None:
        return NO_PARENT
    return set_span_in_context(NonRecordingSpan(_sdk(parent, _state(parent), remote=True)), NO_PARENT)


def _state(span: SpanContext) -> TraceState | None:
    return TraceState.from_header([span.state]) if span.state else None


def _sdk(span: SpanContext, state: TraceState | None, *, remote: bool = False) -> SdkContext:
    return SdkContext(span.trace_id, span.span_id, remote, TraceFlags(span.flags), state)


async def _ended(thread: threading.Thread, clock: Callable[[], float], timeout_s: float) -> bool:
    end_s = clock() + timeout_s
    while thread.is_alive() and clock() < end_s:  # noqa: ASYNC110  the end of a thread sets no asyncio event
        await asyncio.sleep(POLL_S)
    return not thread.is_alive()
