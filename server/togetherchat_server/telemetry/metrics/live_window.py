"""The last minute of a store's counts, for the console.

Once a second the store is summed over all labels but those in SHOWN_LABELS, and the sums are kept
for a minute. The console shows the difference of two of them. The sums contain no model, tenant
or key, so every caller may see them.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Final, final

from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.call_metrics import PROVIDER_REASONS
from togetherchat_server.telemetry.metrics.cardinality import NONE
from togetherchat_server.telemetry.metrics.definitions import DEFINITIONS, Key
from togetherchat_server.telemetry.metrics.store import MetricStore

WINDOW_S: Final = 60
INTERVAL_S: Final = 1.0
RECENT_S: Final = 15
"""The provider's state is that of the last seconds, so that a recovery shows before the minute is over."""

SHOWN_LABELS: Final[Mapping[str, tuple[str, ...]]] = {
    names.CALLS: ("code", "reason"),
    names.TOKENS: ("kind",),
    names.COST_USD: (),
    names.UPSTREAM_RETRIES: (),
    names.UPSTREAM_CALLS: ("outcome",),
}
_POSITIONS: Final = {
    name: tuple(DEFINITIONS[name].labels.index(label) + 1 for label in labels)
    for name, labels in SHOWN_LABELS.items()
}
_BOUNDS: Final = DEFINITIONS[names.TIME_TO_FIRST_TOKEN].bounds
_OUTPUT_TOKENS: Final = (names.TOKENS, "output")

Sums = Counter[Key]
"""Counts by metric and shown labels; of the histogram by metric and number of the bucket."""


@final
class LiveWindow:
    """Keeps the sums of the last minute, one a second."""

    def __init__(self, store: MetricStore, *, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._started_s = clock()
        self._drained: Sums = Counter()
        self._latest: Sums = Counter()
        self._ring: deque[Sums] = deque([Counter()], maxlen=WINDOW_S)
        self._last_failure: tuple[float, str] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(INTERVAL_S, self._fire)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def add_drained(self, deltas: MetricStore) -> None:
        """Keep counts that a worker has sent to its supervisor, and removed from the store."""
        self._drained = self._drained + _sums(deltas)

    def tick(self) -> None:
        """End a second: keep the sums as they are now."""
        self._ring.append(self._read())

    def summary(self) -> dict[str, object]:
        """Return everything that the console shows, ready for JSON.

        `seconds` are per-second counts, oldest first; the last second has not ended.
        """
        now = self._read()
        points = [*self._ring, now]
        window = now - points[0]
        seconds = [after - before for before, after in pairwise(points)]
        return {
            "uptime_s": round(self._clock() - self._started_s, 1),
            "window_s": WINDOW_S,
            "calls": _calls(now),
            "codes": _by_label(now, 1),
            "reasons": _by_label(now, 2),
            "output_tokens": now[_OUTPUT_TOKENS],
            "cost_usd": now[names.COST_USD,] * DEFINITIONS[names.COST_USD].scale,
            "seconds": {
                "calls": _padded([_calls(second) for second in seconds]),
                "output_tokens": _padded([second[_OUTPUT_TOKENS] for second in seconds]),
            },
            "time_to_first_token": _latency(window),
            "provider": self._provider(window, recent=now - points[-min(len(points), RECENT_S + 1)]),
        }

    def _fire(self) -> None:
        self.tick()
        self.start()

    def _read(self) -> Sums:
        sums = self._drained + _sums(self._store)
        for key in sums - self._latest:
            if key[0] == names.CALLS and key[2] in PROVIDER_REASONS:
                self._last_failure = (self._clock(), key[2])
        self._latest = sums
        return sums

    def _provider(self, window: Sums, *, recent: Sums) -> dict[str, object]:
        last = self._last_failure
        return {
            "state": _state(recent),
            **{outcome: window[names.UPSTREAM_CALLS, outcome] for outcome in ("ok", "error", "throttled")},
            "retries": window[names.UPSTREAM_RETRIES,],
            "last_failure": last and {"reason": last[1], "age_s": round(self._clock() - last[0], 1)},
        }


def _sums(store: MetricStore) -> Sums:
    sums: Sums = Counter()
    for key, number in store.counters.items():
        positions = _POSITIONS.get(key[0])
        if positions is not None:
            sums[key[0], *(key[position] for position in positions)] += int(number)
    for key, histogram in store.histograms.items():
        if key[0] == names.TIME_TO_FIRST_TOKEN:
            for bucket, number in enumerate(histogram[:-1]):
                sums[key[0], str(bucket)] += int(number)
    return sums


def _calls(sums: Sums) -> int:
    return sum(number for key, number in sums.items() if key[0] == names.CALLS)


def _by_label(sums: Sums, position: int) -> dict[str, int]:
    """Return the calls by the value of a label, without those that have none."""
    calls: Counter[str] = Counter()
    for key, number in sums.items():
        if key[0] == names.CALLS and key[position] != NONE:
            calls[key[position]] += number
    return dict(calls)


def _padded(values: Sequence[int]) -> list[int]:
    """Return one value for each second of the window, also where it began before the process."""
    return [*[0] * (WINDOW_S - len(values)), *values]


def _latency(window: Sums) -> dict[str, object]:
    buckets = [window[names.TIME_TO_FIRST_TOKEN, str(bucket)] for bucket in range(len(_BOUNDS) + 1)]
    return {"calls": sum(buckets), "p50_s": quantile(0.5, buckets), "p95_s": quantile(0.95, buckets)}


def quantile(share: float, buckets: Sequence[int], bounds: Sequence[float] = _BOUNDS) -> float | None:
    """Interpolate within the bucket that holds the quantile, as Prometheus's histogram_quantile does."""
    rank = share * sum(buckets)
    if not rank:
        return None
    cumulative = [0, *accumulate(buckets)]
    bucket = next(index for index in range(len(buckets)) if cumulative[index + 1] >= rank)
    if bucket == len(bounds):
        return bounds[-1]
    lower = bounds[bucket - 1] if bucket else 0.0
    within = (rank - cumulative[bucket]) / buckets[bucket]
    return round(lower + (bounds[bucket] - lower) * within, 4)


def _state(recent: Sums) -> str:
    """Return `idle`, `healthy`, `degraded` (some calls fail), `unavailable` (all fail) or `throttled`."""
    ok, error, throttled = (recent[names.UPSTREAM_CALLS, name] for name in ("ok", "error", "throttled"))
    if throttled:
        return "throttled"
    if error:
        return "degraded" if ok else "unavailable"
    return "healthy" if ok else "idle"
