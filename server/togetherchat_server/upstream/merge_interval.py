"""Decides how long the reads of streams are deferred, from measurements of the process's load.

Pure: no clock and no I/O. `read_governor` measures and applies.

The theory. A stream that is read once in an interval sends one message for all tokens of that interval,
so its CPU time is inversely proportional to the interval, and one interval serves all streams.

- Below `BUSY_LOW` the interval falls, and below `INTERVAL_MIN_S` it is zero: nothing waits.
- Above `BUSY_HIGH`, or while the event loop is late, it rises. A change shows in the load only after an
  interval, so a long interval rises less often, and falls by no more than the load allows: by the power
  `GAIN` of the ratio to the target, which cannot overshoot before the effect is measured.
- Between both nothing changes. The ratio of the two exceeds one step, so the interval does not oscillate.
- An interval shorter than the gaps between tokens merges nothing, and each deferral costs CPU time. Such an
  interval keeps its own load above `BUSY_LOW`, so it falls below `BUSY_TARGET` already.
- Feed-forward: measurements come too late for hundreds of streams that open in one instant. Their number
  is known at once, and so is the interval that they need, at `MESSAGE_CPU_S` a message.
- The interval is bounded by `STREAM_CEILING_S` for each open stream, so that a loaded machine does not
  delay a few streams, from which nothing can be gained.
"""

from dataclasses import dataclass
from typing import Final, final

SAMPLE_S: Final = 0.05
"""How often the load is sampled while a stream is open."""
BUSY_LOW: Final = 0.55
BUSY_TARGET: Final = 0.65
BUSY_HIGH: Final = 0.75
LATE_S: Final = 0.02
LATE_BUSY_MIN: Final = 0.25
"""A loop that is late while its process is less busy waits for other processes: merging is not the cure."""
MESSAGE_CPU_S: Final = 100e-6
"""CPU time of one message, from the socket to the write; measured at 300 to 1,000 gRPC streams."""
STREAM_CEILING_S: Final = 0.001
INTERVAL_MIN_S: Final = 0.002
TOKEN_GAP_S: Final = 0.02
"""Between the tokens of a stream, for a model that generates 50 a second."""
BURST_STREAMS: Final = 16
"""Streams opened within one sample that are a burst. Opening them takes 10 ms of CPU time."""
RAISE_RATIO: Final = 1.25
RAISE_S: Final = 0.004
FALL_RATIO_MIN: Final = 0.7
GAIN: Final = 0.25
SMOOTHING: Final = 0.6
OVERDUE_S: Final = 1.0
SATURATED_SAMPLES: Final = 20
"""So many samples with a deferral that is overdue are saturation. A pause of the machine is one sample."""
SPREAD: Final = 0.2
"""By how much of the interval a deferral may be shorter. Each tenth costs a twentieth more messages."""
GOLDEN_RATIO: Final = 0.618034
"""The fractional parts of its multiples are evenly distributed, however many of them are taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSample:
    """The load since the previous sample."""

    elapsed_s: float
    busy: float
    """CPU time used, as a fraction of what the process may use."""
    late_s: float
    """How late the event loop took the sample."""
    overdue_s: float
    """By how much the deferral that should have ended first is overdue; 0 or less: not at all."""
    streams: int
    """Streams that are open."""


@final
class MergeInterval:
    """Feed `opened` and `sample`; read `current_s`, which is at most `max_s` seconds."""

    def __init__(self, *, max_s: float) -> None:
        self.current_s = 0.0
        """How long the next read of a stream is deferred; 0: not at all."""
        self._max_s = max_s
        self._busy = 0.0
        self._late_s = 0.0
        self._opened = 0
        self._settling_s = 0.0
        self._overdue_samples = 0

    @property
    def saturated(self) -> bool:
        """Whether deferrals have ended so late, for so long, that one more stream would only delay others."""
        return self._overdue_samples >= SATURATED_SAMPLES

    def opened(self, streams: int) -> None:
        """Report that a stream was opened; now `streams` are open."""
        self._opened += 1
        if self._opened >= BURST_STREAMS:
            self.current_s = self._bounded(max(self.current_s, needed_s(streams)), streams)

    def sample(self, load: LoadSample) -> None:
        """Report the load, about every `SAMPLE_S`."""
        self._opened = 0
        self._overdue_samples = self._overdue_samples + 1 if load.overdue_s > OVERDUE_S else 0
        self._busy += (load.busy - self._busy) * SMOOTHING
        late_s, self._late_s = min(self._late_s, load.late_s), load.late_s
        self._settling_s = max(0.0, self._settling_s - load.elapsed_s)
        overloaded = self._busy > BUSY_HIGH or (late_s > LATE_S and self._busy > LATE_BUSY_MIN)
        interval_s = self.current_s
        if overloaded and not self._settling_s:
            interval_s = max(interval_s * RAISE_RATIO + RAISE_S, needed_s(load.streams))
            self._settling_s = interval_s / 2
        elif not overloaded and self._busy < (BUSY_LOW if interval_s > TOKEN_GAP_S else BUSY_TARGET):
            interval_s *= max(FALL_RATIO_MIN, (self._busy / BUSY_TARGET) ** GAIN)
        self.current_s = self._bounded(interval_s, load.streams)

    def _bounded(self, interval_s: float, streams: int) -> float:
        bounded_s = min(interval_s, self._max_s, streams * STREAM_CEILING_S)
        return bounded_s if bounded_s >= INTERVAL_MIN_S else 0.0


def deferral_s(interval_s: float, number: int) -> float:
    """Return how long the deferral with this number takes: at most the interval.

    The lengths differ, so that streams which were opened or held up together do not stay together.
    """
    return interval_s * (1 - SPREAD * (number * GOLDEN_RATIO % 1))


def needed_s(streams: int) -> float:
    """Return the interval at which the messages of these streams take `BUSY_TARGET` of a CPU."""
    return streams * MESSAGE_CPU_S / BUSY_TARGET
