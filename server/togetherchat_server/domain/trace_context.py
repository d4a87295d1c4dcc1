"""A call's position in a distributed trace, and the data of its spans.

Owns the W3C Trace Context headers (https://www.w3.org/TR/trace-context/) and the record of an attempt.
Imports no SDK: without tracing nothing of OpenTelemetry is loaded. Holds no text of callers or models,
so everything here may be exported.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Self, final

SAMPLED: Final = 0x01
RANDOM: Final = 0x02
"""The flag for a random trace id; passed on unchanged."""
STATE_CHARACTERS_MAX: Final = 512
STATE_MEMBERS_MAX: Final = 32

# A later version may add fields after these four.
_TRACEPARENT: Final = re.compile(r"([\da-f]{2})-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})(-.*)?", re.ASCII)
_KEY: Final = r"[a-z\d][a-z\d_*/@-]{0,255}"
_VALUE: Final = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_STATE: Final = re.compile(
    rf"[ \t]*(?:{_KEY}={_VALUE})?[ \t]*(?:,[ \t]*(?:{_KEY}={_VALUE})?[ \t]*)*", re.ASCII
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanContext:
    """Identifies a span to other systems."""

    trace_id: int
    span_id: int
    flags: int = 0
    state: str = ""
    """`tracestate`: entries added by tracing systems on the way."""

    @property
    def sampled(self) -> bool:
        return bool(self.flags & SAMPLED)

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.flags:02x}"

    @classmethod
    def parse(cls, traceparent: str, tracestate: str) -> Self | None:
        """Parse the caller's span from its headers; None if they name none.

        A `tracestate` that is malformed, or longer than the standard requires systems to pass on, is dropped.
        """
        match = _TRACEPARENT.fullmatch(traceparent)
        if match is None:
            return None
        version, trace_id, span_id, flags, more = match.groups()
        if version == "ff" or (version == "00" and more):
            return None
        parent = cls(
            trace_id=int(trace_id, 16),
            span_id=int(span_id, 16),
            flags=int(flags, 16) & (SAMPLED | RANDOM),
            state=tracestate if _is_state(tracestate) else "",
        )
        return parent if parent.trace_id and parent.span_id else None


@dataclass(slots=True, kw_only=True)
class AttemptTrace:
    """One request to the provider. Times are seconds on the monotonic clock."""

    span: SpanContext
    http_method: str
    path: str
    started_s: float
    ended_s: float | None = None
    model: str = ""
    """Empty if the request names no model."""
    parameters: Mapping[str, float] = field(default_factory=dict[str, float])
    """Numeric request fields by their names."""
    streamed: bool = False
    upstream: str = ""
    http_status: int | None = None
    failure: str = ""
    """The reason of the failure, or CANCELLED if the call ended first."""
    first_event_s: float | None = None
    response_id: str = ""
    response_model: str = ""
    finish_reasons: tuple[str, ...] = ()
    usage: Mapping[str, int] = field(default_factory=dict[str, int])
    """Tokens by the field names of `Usage`; empty if the provider reported none."""


CANCELLED: Final = "CANCELLED"


@final
class CallTrace:
    """A sampled call: its span, its caller's span, and the attempts so far."""

    __slots__ = ("_new_span_id", "attempts", "parent", "span")

    def __init__(
        self, span: SpanContext, *, parent: SpanContext | None, new_span_id: Callable[[], int]
    ) -> None:
        self.span = span
        self.parent = parent
        self.attempts: list[AttemptTrace] = []
        self._new_span_id = new_span_id

    @property
    def trace_id(self) -> str:
        return f"{self.span.trace_id:032x}"

    def attempt(self, *, http_method: str, path: str, started_s: float) -> AttemptTrace:
        """Begin an attempt. Its span is sent to the provider as the parent."""
        span = SpanContext(
            trace_id=self.span.trace_id,
            span_id=self._new_span_id(),
            flags=self.span.flags,
            state=self.span.state,
        )
        attempt = AttemptTrace(span=span, http_method=http_method, path=path, started_s=started_s)
        self.attempts.append(attempt)
        return attempt


def _is_state(text: str) -> bool:
    return (
        0 < len(text) <= STATE_CHARACTERS_MAX
        and text.count(",") < STATE_MEMBERS_MAX
        and _STATE.fullmatch(text) is not None
    )
