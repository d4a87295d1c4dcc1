"""A call's place in a distributed trace, and the plain facts that its spans will be made of.

Owns the headers of the W3C Trace Context (https://www.w3.org/TR/trace-context/) and what is
noted of an attempt. Knows no SDK: where nobody traces, nothing of OpenTelemetry is loaded.
Holds no text of callers or models, so whatever is here may be exported.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Self, final

SAMPLED: Final = 0x01
RANDOM: Final = 0x02
"""That the trace id is random, which is passed on as it came."""
STATE_CHARACTERS_MAX: Final = 512
STATE_MEMBERS_MAX: Final = 32

# A later version may say more after these four fields.
_TRACEPARENT: Final = re.compile(r"([\da-f]{2})-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})(-.*)?", re.ASCII)
_KEY: Final = r"[a-z\d][a-z\d_*/@-]{0,255}"
_VALUE: Final = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_STATE: Final = re.compile(
    rf"[ \t]*(?:{_KEY}={_VALUE})?[ \t]*(?:,[ \t]*(?:{_KEY}={_VALUE})?[ \t]*)*", re.ASCII
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanContext:
    """What names a span to others."""

    trace_id: int
    span_id: int
    flags: int = 0
    state: str = ""
    """What tracing systems on the way have added (`tracestate`)."""

    @property
    def sampled(self) -> bool:
        return bool(self.flags & SAMPLED)

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.flags:02x}"

    @classmethod
    def of(cls, traceparent: str, tracestate: str) -> Self | None:
        """The caller's span as its headers name it; None where they name none.

        A `tracestate` that is malformed, or longer than others pass on, is left out.
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
    """Empty where no model was asked."""
    parameters: Mapping[str, float] = field(default_factory=dict[str, float])
    """Numbers of the request, under the names of its fields."""
    streamed: bool = False
    upstream: str = ""
    http_status: int | None = None
    failure: str = ""
    """The kind of failure, or CANCELLED where the call ended meanwhile."""
    first_event_s: float | None = None
    response_id: str = ""
    response_model: str = ""
    finish_reasons: tuple[str, ...] = ()
    usage: Mapping[str, int] = field(default_factory=dict[str, int])
    """Tokens, under the names of the fields of `Usage`; empty where the provider told none."""


CANCELLED: Final = "CANCELLED"


@final
class CallTrace:
    """A sampled call: its span, its caller's, and the attempts made so far."""

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
        """A new attempt, whose span the provider is told as its parent."""
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
