"""What the last minute looked like: counts and a sliding window, fed by call records.

A sink that keeps numbers alone: no model, no id, no key, so that whoever may call may see them.
Every list has a bound, and a record costs the same however many came before. Owns what counts
as the provider's failure; knows no page that shows it.

A second of the window is a slot that is used again a minute later. A call counts in the second
in which it ended, with all of its tokens.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, final

from togetherchat_server.domain.reasons import Reason
from togetherchat_server.telemetry.call_record import CallRecord

WINDOW_S: Final = 60
LATENCIES_MAX: Final = 512
RECENT_S: Final = 15
"""How long the provider's last words count for its state."""

CALLERS_OWN: Final = frozenset(
    {
        Reason.INVALID_REQUEST,
        Reason.REQUEST_TOO_LARGE,
        Reason.CONTEXT_LENGTH_EXCEEDED,
        Reason.MODEL_NOT_FOUND,
        Reason.UPSTREAM_INVALID_REQUEST,
        Reason.MISSING_CREDENTIALS,
        Reason.INVALID_CREDENTIALS,
        Reason.CALLER_KEY_REJECTED,
        Reason.MODEL_NOT_ALLOWED,
        Reason.CALLER_QUOTA,
        Reason.CALLER_DEADLINE,
        Reason.CALLER_CANCELLED,
        Reason.CALLER_STALLED,
    }
)
OURS: Final = frozenset({Reason.CALL_TIMEOUT, Reason.OVERLOADED, Reason.DRAINING, Reason.INTERNAL_ERROR})
UPSTREAMS: Final = frozenset(reason.value for reason in set(Reason) - CALLERS_OWN - OURS)
"""Reasons that say something of the provider."""


@dataclass(slots=True)
class _Second:
    """What ended in one second."""

    at_s: int = -WINDOW_S
    calls: int = 0
    failures: int = 0
    tokens: int = 0
    answered: int = 0
    failed: int = 0
    held: int = 0
    retries: int = 0


@final
class LiveFigures:
    """The sink, and what it knows."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began_s = clock()
        self._seconds = [_Second() for _ in range(WINDOW_S)]
        self._codes: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._tokens = 0
        self._cost_nano_usd = 0
        self._first_tokens: deque[tuple[float, float]] = deque(maxlen=LATENCIES_MAX)
        self._last_failure: tuple[float, str] | None = None

    def __call__(self, record: CallRecord) -> None:
        now_s = self._clock()
        second = self._second(int(now_s))
        second.calls += 1
        self._codes[record.code] += 1
        if record.reason:
            second.failures += 1
            self._reasons[record.reason] += 1
        if record.attempts > 1:
            second.retries += record.attempts - 1
        if record.completion_tokens:
            second.tokens += record.completion_tokens
            self._tokens += record.completion_tokens
        if record.cost_nano_usd:
            self._cost_nano_usd += record.cost_nano_usd
        if record.first_token_s is not None:
            self._first_tokens.append((now_s, record.first_token_s))
        self._note_upstream(record, second, now_s)

    def snapshot(self) -> dict[str, object]:
        """Everything, ready for JSON: seconds oldest first, the last of them still running."""
        now_s = self._clock()
        window = self._window(int(now_s))
        return {
            "uptime_s": round(now_s - self._began_s, 1),
            "window_s": WINDOW_S,
            "calls": self._codes.total(),
            "codes": dict(self._codes),
            "reasons": dict(self._reasons),
            "tokens": self._tokens,
            "cost_usd": self._cost_nano_usd / 1e9,
            "seconds": {
                "calls": [second.calls for second in window],
                "failures": [second.failures for second in window],
                "tokens": [second.tokens for second in window],
            },
            "first_token": self._latency(now_s),
            "upstream": self._upstream(window, now_s),
        }

    def _note_upstream(self, record: CallRecord, second: _Second, now_s: float) -> None:
        if record.reason in UPSTREAMS:
            self._last_failure = (now_s, record.reason)
            if record.attempts:
                second.failed += 1
            else:
                second.held += 1  # answered here: it asked to wait, or failed most of the time
        elif record.attempts and not record.reason:
            second.answered += 1

    def _second(self, at_s: int) -> _Second:
        second = self._seconds[at_s % WINDOW_S]
        if second.at_s != at_s:
            second = self._seconds[at_s % WINDOW_S] = _Second(at_s)
        return second

    def _window(self, now_s: int) -> list[_Second]:
        """The last minute's seconds, oldest first, and the one that is running as the last."""
        places = range(now_s - WINDOW_S + 1, now_s + 1)
        found = (self._seconds[at_s % WINDOW_S] for at_s in places)
        return [
            second if second.at_s == at_s else _Second(at_s)
            for at_s, second in zip(places, found, strict=True)
        ]

    def _latency(self, now_s: float) -> dict[str, object]:
        recent = sorted(took_s for ended_s, took_s in self._first_tokens if ended_s > now_s - WINDOW_S)
        return {
            "calls": len(recent),
            "p50_s": _quantile(recent, 0.5),
            "p95_s": _quantile(recent, 0.95),
        }

    def _upstream(self, window: Sequence[_Second], now_s: float) -> dict[str, object]:
        recent = window[-RECENT_S:]
        last = self._last_failure
        return {
            "state": _state(
                answered=sum(second.answered for second in recent),
                failed=sum(second.failed for second in recent),
                held=sum(second.held for second in recent),
            ),
            "answered": sum(second.answered for second in window),
            "failed": sum(second.failed for second in window),
            "held": sum(second.held for second in window),
            "retries": sum(second.retries for second in window),
            "last_failure": last and {"reason": last[1], "age_s": round(now_s - last[0], 1)},
        }


def _state(*, answered: int, failed: int, held: int) -> str:
    """`quiet`, `well`, `failing` (some do), `down` (all do), or `held`: calls are refused here."""
    if held:
        return "held"
    if failed:
        return "failing" if answered else "down"
    return "well" if answered else "quiet"


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """The value that this share does not exceed."""
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 4)
