"""The decision how long reads are deferred, on simulated and on recorded loads."""

import heapq
import itertools
from dataclasses import dataclass, field

import pytest

from support.recorded_loads import QUIET, SATURATED, STEADY
from togetherchat_server.upstream.merge_interval import (
    OVERDUE_S,
    SAMPLE_S,
    SATURATED_SAMPLES,
    LoadSample,
    MergeInterval,
    deferral_s,
    needed_s,
)

MAX_S = 0.25


def load_of(*, overdue_s=0.0, **measured):
    return LoadSample(overdue_s=overdue_s, **measured)


@dataclass
class Simulation:
    """One thread that reads streams of paced tokens, with the costs measured on the gRPC frontend."""

    message_s: float = 90e-6
    token_s: float = 7e-6
    opening_s: float = 600e-6
    deferral_s: float = 12e-6
    gap_s: float = 0.02
    interval: MergeInterval = field(default_factory=lambda: MergeInterval(max_s=MAX_S))
    now_s: float = 0.0
    used_s: float = 0.0
    sampled_s: float = 0.0
    sampled_used_s: float = 0.0
    numbers: itertools.count = field(default_factory=itertools.count)
    streams: dict = field(default_factory=dict)
    """By stream, when it was read last."""
    due: list = field(default_factory=list)
    intervals: list = field(default_factory=list)
    reads: list = field(default_factory=list)
    busy: list = field(default_factory=list)

    def open(self, count):
        """Open streams in one instant."""
        for _ in range(count):
            stream = next(self.numbers)
            self.streams[stream] = self.now_s
            self.interval.opened(len(self.streams))
            heapq.heappush(self.due, (self.now_s, stream, True))

    def close(self, count):
        for stream in list(self.streams)[:count]:
            del self.streams[stream]

    def run(self, seconds):
        """Let the thread work in the order of due times; the load is sampled as a loop would."""
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            sample_due_s = self.sampled_s + SAMPLE_S
            if not self.due or self.due[0][0] > max(self.now_s, sample_due_s):
                self.now_s = max(self.now_s, sample_due_s)
                self.sample(sample_due_s)
            elif sample_due_s < self.now_s - 0.005:  # what is ready is served first, for a turn of the loop
                self.sample(sample_due_s)
            else:
                self.serve()

    def sample(self, due_s):
        elapsed_s, used_s = self.now_s - self.sampled_s, self.used_s - self.sampled_used_s
        load = load_of(
            elapsed_s=elapsed_s,
            busy=used_s / elapsed_s,
            late_s=self.now_s - due_s,
            streams=len(self.streams),
        )
        self.interval.sample(load)
        self.sampled_s, self.sampled_used_s = self.now_s, self.used_s
        self.intervals.append((self.now_s, self.interval.current_s))
        self.busy.append((self.now_s, load.busy))

    def serve(self):
        due_s, stream, opening = heapq.heappop(self.due)
        if stream not in self.streams:
            return
        self.now_s = max(self.now_s, due_s)
        tokens = max(1, round((self.now_s - self.streams[stream]) / self.gap_s))
        cost_s = self.opening_s if opening else self.message_s + tokens * self.token_s
        cost_s += self.deferral_s if self.interval.current_s else 0.0
        self.streams[stream] = self.now_s
        self.reads.append((self.now_s, self.now_s - due_s))
        self.now_s += cost_s
        self.used_s += cost_s
        wait_s = deferral_s(self.interval.current_s, next(self.numbers))
        following_s = max(self.now_s + wait_s, self.streams[stream] + self.gap_s)
        heapq.heappush(self.due, (following_s, stream, False))

    def since(self, series, seconds):
        return [value for at_s, value in series if at_s >= self.now_s - seconds]


@pytest.mark.parametrize("streams", [1, 10, 100])
def test_nothing_is_deferred_below_saturation(streams):
    """A hundred streams of 50 tokens a second use half of the thread: no read of theirs is deferred."""
    simulation = Simulation()
    for _ in range(streams):
        simulation.open(1)
        simulation.run(0.02)
    simulation.run(5)

    assert {0.0} == {interval_s for _, interval_s in simulation.intervals}


@pytest.mark.parametrize(("streams", "cost"), [(300, 1.0), (300, 1.5), (600, 1.0), (600, 1.5), (1000, 1.0)])
def test_many_streams_settle(streams, cost):
    """The interval settles where the thread is busy, but not saturated, and does not oscillate."""
    simulation = Simulation(message_s=90e-6 * cost, token_s=5e-6 * cost)
    simulation.open(streams)
    simulation.run(10)
    intervals = simulation.since(simulation.intervals, 5)

    assert max(intervals) <= 1.3 * min(intervals) + 0.004
    assert 0.4 < sum(simulation.since(simulation.busy, 5)) / len(intervals) < 0.8
    assert max(simulation.since(simulation.reads, 5)) < 0.05


def test_a_burst_is_met_at_once():
    """Streams that open in one instant get the interval that their number needs before the first sample."""
    interval = MergeInterval(max_s=MAX_S)
    for streams in range(1, 301):
        interval.opened(streams)

    assert needed_s(300) == interval.current_s


@pytest.mark.parametrize("streams", [20, 90, 100])
def test_an_interval_that_merges_nothing_ends(streams):
    """After a burst whose streams do not saturate the process, deferrals end although they cost CPU time."""
    simulation = Simulation()
    simulation.open(streams)
    assert simulation.interval.current_s > 0
    simulation.run(5)

    assert {0.0} == set(simulation.since(simulation.intervals, 1))


def test_streams_that_open_one_by_one_are_no_burst():
    """A hundred arrivals a second are five in a sample: their number alone defers nothing."""
    interval = MergeInterval(max_s=MAX_S)
    for streams in range(1, 501):
        interval.opened(streams)
        if streams % 5 == 0:
            interval.sample(load_of(elapsed_s=SAMPLE_S, busy=0.4, late_s=0.0, streams=streams))

    assert 0.0 == interval.current_s


@pytest.mark.parametrize("left", [0, 5, 50])
def test_the_interval_recovers_within_a_second(left):
    """When most streams have ended, reads are not deferred any more within a second."""
    simulation = Simulation()
    simulation.open(1000)
    simulation.run(5)
    simulation.close(1000 - left)
    simulation.run(1)

    assert 0.0 == simulation.interval.current_s


def test_wake_ups_are_spread():
    """A second after streams opened in one instant, their reads are spread evenly over the interval."""
    simulation = Simulation()
    simulation.open(600)
    simulation.run(6)
    slots = [0] * 100
    for at_s, _ in simulation.reads:
        if at_s >= 5:
            slots[min(99, int((at_s - 5) * 100))] += 1

    assert max(slots) <= 2 * sum(slots) / len(slots)


def test_deferrals_of_one_instant_differ():
    """Deferrals are at most the interval long, at least four fifths of it, and evenly distributed in between."""
    lengths = sorted(deferral_s(0.2, number) for number in range(100))

    assert 0.16 <= lengths[0] < 0.162
    assert 0.198 < lengths[-1] <= 0.2
    assert max(later - earlier for earlier, later in itertools.pairwise(lengths)) < 0.0016


def test_one_long_turn_is_not_saturation():
    """A single long turn, such as a garbage collection or a large request, defers nothing."""
    interval = MergeInterval(max_s=MAX_S)
    for late_s in (0.0, 0.0, 0.1, 0.0, 0.0):
        elapsed_s = SAMPLE_S + late_s
        busy = (0.3 * SAMPLE_S + late_s) / elapsed_s
        interval.sample(load_of(elapsed_s=elapsed_s, busy=busy, late_s=late_s, streams=300))
        assert 0.0 == interval.current_s


def test_a_loop_that_waits_for_other_processes_defers_nothing():
    """A loop that is late although its process is idle waits for the machine: merging would not help."""
    interval = MergeInterval(max_s=MAX_S)
    for _ in range(100):
        interval.sample(load_of(elapsed_s=0.1, busy=0.2, late_s=0.05, streams=300))

    assert 0.0 == interval.current_s


def test_the_interval_is_bounded():
    """The interval exceeds neither the setting nor a millisecond for each open stream."""
    interval = MergeInterval(max_s=MAX_S)
    for _ in range(100):
        interval.sample(load_of(elapsed_s=SAMPLE_S, busy=1.0, late_s=0.1, streams=1000))
    assert MAX_S == interval.current_s
    interval.sample(load_of(elapsed_s=SAMPLE_S, busy=1.0, late_s=0.1, streams=20))
    assert 0.02 == interval.current_s


def test_saturation_is_lasting():
    """The process is saturated after a second of samples with overdue deferrals, not after one."""
    interval = MergeInterval(max_s=MAX_S)
    overdue = load_of(elapsed_s=SAMPLE_S, busy=1.0, late_s=0.1, streams=1000, overdue_s=2 * OVERDUE_S)
    for _ in range(SATURATED_SAMPLES):
        assert not interval.saturated
        interval.sample(overdue)
    assert interval.saturated
    interval.sample(load_of(elapsed_s=SAMPLE_S, busy=1.0, late_s=0.1, streams=1000))

    assert not interval.saturated


def replayed(recorded, interval):
    """Return the intervals after each sample."""
    intervals = []
    for elapsed_s, busy, late_s, streams in recorded:
        interval.sample(load_of(elapsed_s=elapsed_s, busy=busy, late_s=late_s, streams=streams))
        intervals.append(interval.current_s)
    return intervals


def test_a_recorded_quiet_load_defers_nothing():
    """Samples of a quiet service leave the interval at zero."""
    assert {0.0} == set(replayed(QUIET, MergeInterval(max_s=MAX_S)))


def test_a_recorded_burst_is_met_within_the_burst():
    """Samples of an opening burst defer reads from the second sample on, and ever longer."""
    intervals = replayed(SATURATED, MergeInterval(max_s=MAX_S))

    assert intervals[1] > 0
    assert intervals[9] > 0.1
    assert sorted(intervals[:10]) == intervals[:10]


def test_a_recorded_steady_load_keeps_its_interval():
    """Samples of a service in steady state leave the interval as it is."""
    intervals = replayed(STEADY, interval := MergeInterval(max_s=MAX_S))
    assert [0.0] == intervals[:1]
    interval.current_s = 0.2

    assert 0.15 < min(replayed(STEADY, interval))
