"""Defers the reads of streams while the process approaches saturation.

Bytes of a stream whose read is deferred wait in the kernel and become one message, so turns of the
event loop stay short and new calls are accepted. `merge_interval` decides for how long. This module
samples the load while a stream is open, and ends deferrals: a few in each turn of the loop, those that
are due first.

While the interval is zero, a read costs one comparison.
"""

import asyncio
import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, final

from togetherchat_server.upstream.merge_interval import SAMPLE_S, LoadSample, MergeInterval, deferral_s

RESUMED_PER_TURN: Final = 8
"""Streams resumed in one turn of the loop: about a millisecond of work."""


class Deferrable(Protocol):
    """A stream whose bytes can be left in the kernel."""

    def defer_read(self) -> bool:
        """Read nothing until `resume_read`. Return false if the rest of the body was read already."""
        ...

    def resume_read(self) -> None:
        """End the deferral, if there is one and the stream is open."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuMeter:
    """Measures the CPU time of the event loop's thread and of the process, against what they may use."""

    capacity_cpus: float
    """The CPUs that the process may use: those of its scheduler mask, at most the container's quota."""
    thread_s: Callable[[], float] = time.thread_time
    process_s: Callable[[], float] = time.process_time

    def read(self) -> tuple[float, float]:
        return self.thread_s(), self.process_s()

    def busy(self, before: tuple[float, float], after: tuple[float, float], elapsed_s: float) -> float:
        """Return the used fraction of what is scarcer: the thread's CPU or all CPUs of the process."""
        thread_s, process_s = after[0] - before[0], after[1] - before[1]
        return max(thread_s / min(1.0, self.capacity_cpus), process_s / self.capacity_cpus) / elapsed_s


@final
class ReadGovernor:
    """Governs the streams of one process. Used by the event loop's thread alone.

    `with governor` counts a stream as open. The contexts of several streams overlap.

    Args:
        max_interval_s: bound on a deferral; 0 switches deferrals off.
        cpu: measures the process.
        clock: the monotonic clock of the event loop.
    """

    def __init__(self, *, max_interval_s: float, cpu: CpuMeter, clock: Callable[[], float]) -> None:
        self.interval_s = 0.0
        """How long reads are deferred at present; 0: not at all."""
        self.deferrals = 0
        """Reads that were deferred since the start."""
        self._interval = MergeInterval(max_s=max_interval_s)
        self._off = max_interval_s <= 0
        self._cpu = cpu
        self._clock = clock
        self._streams = 0
        self._sampled_s = 0.0
        self._cpu_read = (0.0, 0.0)
        self._sampling: asyncio.TimerHandle | None = None
        self._deferred: list[tuple[float, int, Deferrable]] = []
        """A heap: when each deferral ends, its number, and its stream."""
        self._resuming: asyncio.Handle | None = None

    @property
    def saturated(self) -> bool:
        """Whether deferrals have ended so late, for so long, that one more stream would only delay others."""
        return self._interval.saturated

    def __enter__(self) -> None:
        self.opened()

    def __exit__(self, *_exception: object) -> None:
        self.closed()

    def opened(self) -> None:
        """Count a stream as open, from its request to the provider on."""
        self._streams += 1
        if self._off:
            return
        self._interval.opened(self._streams)
        self.interval_s = self._interval.current_s
        if self._sampling is None:
            self._begin_sample()

    def closed(self) -> None:
        self._streams -= 1

    def defer(self, stream: Deferrable, *, deadline_s: float) -> float:
        """Defer the next read of a stream by the present interval. Return when the deferral ends.

        The read is not deferred shortly before `deadline_s`, so that what has arrived is passed on.
        """
        now_s, interval_s = self._clock(), self.interval_s
        if now_s + 2 * interval_s >= deadline_s or not stream.defer_read():
            return now_s
        self.deferrals += 1
        due_s = now_s + deferral_s(interval_s, self.deferrals)
        heapq.heappush(self._deferred, (due_s, self.deferrals, stream))
        if self._resuming is None:
            self._schedule()
        return due_s

    def stop(self) -> None:
        """End every deferral, and defer nothing from now on: the calls in flight are about to end."""
        self._off = True
        self.interval_s = 0.0
        for timer in (self._sampling, self._resuming):
            if timer is not None:
                timer.cancel()
        for _, _, stream in self._deferred:
            stream.resume_read()
        self._deferred.clear()

    def _schedule(self) -> None:
        delay_s = self._deferred[0][0] - self._clock()
        loop = asyncio.get_running_loop()
        self._resuming = (
            loop.call_later(delay_s, self._resume) if delay_s > 0 else loop.call_soon(self._resume)
        )

    def _resume(self) -> None:
        """End the deferrals that are due: a few in this turn of the loop, the others in the next turns."""
        self._resuming = None
        now_s = self._clock()
        for _ in range(RESUMED_PER_TURN):
            if not self._deferred or self._deferred[0][0] > now_s:
                break
            heapq.heappop(self._deferred)[2].resume_read()
        if self._deferred:
            self._schedule()

    def _begin_sample(self) -> None:
        self._sampled_s, self._cpu_read = self._clock(), self._cpu.read()
        self._sampling = asyncio.get_running_loop().call_later(SAMPLE_S, self._sample)

    def _sample(self) -> None:
        now_s, cpu_read = self._clock(), self._cpu.read()
        elapsed_s = now_s - self._sampled_s
        self._interval.sample(
            LoadSample(
                elapsed_s=elapsed_s,
                busy=self._cpu.busy(self._cpu_read, cpu_read, elapsed_s),
                late_s=elapsed_s - SAMPLE_S,
                overdue_s=now_s - self._deferred[0][0] if self._deferred else 0.0,
                streams=self._streams,
            )
        )
        self.interval_s = self._interval.current_s
        self._sampling = None
        if self._streams:
            self._begin_sample()
