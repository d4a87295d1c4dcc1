"""Spans of calls and their attempts, sent to a collector by OpenTelemetry's SDK.

The one module that knows OpenTelemetry, loaded where `--traces otlp` asks for it. What it can
export is in `CallRecord` and `Attempt`, which hold no text of callers or models and no key.

Spans are made when the call has ended, all at once: that costs less than spans that are alive
beside the call, and cannot leak one. What must be known before, the ids and whether the call is
sampled, is decided when it begins. What they
are named and say is decided in `span_facts`.

The SDK exports on a thread of its own, from a queue with a bound. Its logging is switched off:
it would say the same of every batch. Here it is said once for each outage.
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
FLUSH_S: Final = 0.8
"""How long the end of the process waits for spans that a collector has not taken yet, and then,"""
GIVE_UP_S: Final = 0.2
"""for the export to hear that it is to stop: together no more than the drain's last second."""
LOOK_S: Final = 0.01
NO_PARENT: Final = Context()

_log = logging.getLogger(__name__)


@final
class SpanCounter(SpanExporter):
    """The way to the collector: says once that it is not there, counts what it took and what is lost."""

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
            self._note(len(spans), taken=result is SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def _note(self, count: int, *, taken: bool) -> None:
        if taken:
            self.exported += count
        else:
            self.lost += count
        if taken is not self._failing:
            return
        self._failing = not taken
        if taken:
            _log.warning("the collector of traces takes spans again; %d were lost", self.lost)
        else:
            _log.warning("the collector of traces takes no spans; they are dropped until it does")


@final
class OtlpSpans:
    """`Spans` over the SDK, which reads the standard OTEL_* variables of the environment itself."""

    def __init__(
        self,
        *,
        base_url: str,
        doors: ListenerAttributes,
        version: str,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        """Silences the SDK's loggers until it is closed."""
        self._sdk_log = logging.getLogger("opentelemetry")
        self._sdk_log_level = self._sdk_log.level
        self._sdk_log.setLevel(logging.CRITICAL + 1)
        # What it would do for us, sampler and ids as the environment says, without its spans.
        provider = TracerProvider(resource=_resource(version), shutdown_on_exit=False)
        self._sampler = provider.sampler
        self._ids = provider.id_generator
        self._resource = provider.resource
        self._scope = InstrumentationScope(SERVICE, version)
        self._place = ProviderAttributes.of(base_url)
        self._doors = doors
        self._clock = clock
        self._wall_clock = wall_clock
        self._made = 0
        self._collector = SpanCounter(OTLPSpanExporter())
        self._queue = BatchSpanProcessor(self._collector)

    @property
    def gauges(self) -> Mapping[str, Callable[[], int]]:
        """Spans made, taken by the collector, and refused by it. The rest waits or found no room."""
        return {
            "trace_spans_made": lambda: self._made,
            "trace_spans_exported": lambda: self._collector.exported,
            "trace_spans_lost": lambda: self._collector.lost,
        }

    def begin(self, parent: SpanContext | None) -> tuple[SpanContext, CallTrace | None]:
        trace_id = parent.trace_id if parent else self._ids.generate_trace_id()
        result = self._sampler.should_sample(_around(parent), trace_id, SERVICE, SpanKind.SERVER)
        if not result.decision.is_sampled():
            # No span of ours: what the provider makes is a child of the caller's, unsampled too.
            span_id = parent.span_id if parent else self._ids.generate_span_id()
            return _context(parent, trace_id, span_id, sampled=False), None
        span = _context(parent, trace_id, self._ids.generate_span_id(), sampled=True)
        return span, CallTrace(span, parent=parent, new_span_id=self._ids.generate_span_id)

    def end(self, call: Call, record: CallRecord) -> None:
        trace = call.trace
        if trace is None:
            return
        ended_s = call.received_s + record.duration_s
        # One difference for all of a call's spans, so that they stand to each other as they were.
        wall_s = self._wall_clock() - self._clock()
        state = _state(trace.span)
        call_context = _sdk(trace.span, state)
        for number, attempt in enumerate(trace.attempts):
            self._emit(
                attempt_name(attempt),
                SpanKind.CLIENT,
                (_sdk(attempt.span, state), call_context),
                attempt_attributes(attempt, number, self._place, record),
                (attempt.started_s + wall_s, (attempt.ended_s or ended_s) + wall_s),
            )
        parent = _sdk(trace.parent, state, remote=True) if trace.parent else None
        self._emit(
            call_name(record),
            SpanKind.SERVER,
            (call_context, parent),
            call_attributes(record, self._doors),
            (call.received_s + wall_s, ended_s + wall_s),
        )

    async def aclose(self) -> None:
        """Send what waits, for less than a second; what the collector did not take then is lost."""
        # A daemon: one that hangs keeps no process alive, as a thread of the loop's pool would.
        flush = threading.Thread(target=self._queue.shutdown, name="traces", daemon=True)
        flush.start()
        if not await _ended(flush, self._clock, FLUSH_S):
            self._collector.shutdown()
            await _ended(flush, self._clock, GIVE_UP_S)
        self._sdk_log.setLevel(self._sdk_log_level)

    def _emit(
        self,
        name: str,
        kind: SpanKind,
        contexts: tuple[SdkContext, SdkContext | None],
        attributes: Attributes,
        times_s: tuple[float, float],
    ) -> None:
        self._made += 1
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
    doors: ListenerAttributes,
    version: str,
    clock: Callable[[], float],
    wall_clock: Callable[[], float],
) -> OtlpSpans | None:
    """Ready to make spans; None where OTEL_SDK_DISABLED says that none are wanted."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    return OtlpSpans(base_url=base_url, doors=doors, version=version, clock=clock, wall_clock=wall_clock)


def _resource(version: str) -> Resource:
    """Who sends: our own words, unless the environment says otherwise."""
    ours = {
        "service.name": SERVICE,
        "service.version": version,
        "service.instance.id": str(uuid.uuid4()),
    }
    return Resource.create({**ours, **OTELResourceDetector().detect().attributes})


def _context(parent: SpanContext | None, trace_id: int, span_id: int, *, sampled: bool) -> SpanContext:
    return SpanContext(
        trace_id=trace_id,
        span_id=span_id,
        flags=(parent.flags & RANDOM if parent else 0) | (SAMPLED if sampled else 0),
        state=parent.state if parent else "",
    )


def _around(parent: SpanContext | None) -> Context:
    """The parent as samplers want it."""
    if parent is None:
        return NO_PARENT
    return set_span_in_context(NonRecordingSpan(_sdk(parent, _state(parent), remote=True)), NO_PARENT)


def _state(span: SpanContext) -> TraceState | None:
    return TraceState.from_header([span.state]) if span.state else None


def _sdk(span: SpanContext, state: TraceState | None, *, remote: bool = False) -> SdkContext:
    return SdkContext(span.trace_id, span.span_id, remote, TraceFlags(span.flags), state)


async def _ended(thread: threading.Thread, clock: Callable[[], float], within_s: float) -> bool:
    end_s = clock() + within_s
    while thread.is_alive() and clock() < end_s:  # noqa: ASYNC110  a thread has no event of the loop's
        await asyncio.sleep(LOOK_S)
    return not thread.is_alive()
