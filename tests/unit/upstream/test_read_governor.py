"""Deferrals on a real event loop, with streams that only record what they are told."""

import asyncio
import itertools
import time
from dataclasses import dataclass, field

import pytest

from support.waiting import eventually
from togetherchat_server.upstream.merge_interval import STREAM_CEILING_S
from togetherchat_server.upstream.read_governor import (
    RESUMED_PER_TURN,
    CpuMeter,
    ReadGovernor,
)

FAR_S = 1e9
MAX_S = 0.1
STREAMS = 200


@dataclass
class Stream:
    """Records when it was deferred and resumed."""

    open: bool = True
    deferred: list = field(default_factory=list)
    resumed: list = field(default_factory=list)

    def defer_read(self):
        if self.open:
            self.deferred.append(time.monotonic())
        return self.open

    def resume_read(self):
        self.resumed.append(time.monotonic())


def governor_of(*, max_interval_s=MAX_S, thread_s=time.monotonic):
    """Return a governor whose process is saturated, unless the clock of the thread says otherwise."""
    meter = CpuMeter(capacity_cpus=1.0, thread_s=thread_s, process_s=lambda: 0.0)
    return ReadGovernor(max_interval_s=max_interval_s, cpu=meter, clock=time.monotonic)


async def saturated(**options):
    """Return a governor with many open streams and the longest interval."""
    governor = governor_of(**options)
    for _ in range(STREAMS):
        governor.opened()
    await eventually(lambda: governor.interval_s == MAX_S)
    return governor


async def test_a_deferral_ends_after_the_interval():
    """A deferred stream is resumed after half to all of the interval."""
    governor, stream = await saturated(), Stream()
    due_s = governor.defer(stream, deadline_s=FAR_S)
    await eventually(lambda: stream.resumed)
    governor.stop()

    assert MAX_S / 2 <= due_s - stream.deferred[0] <= MAX_S + 0.001
    assert due_s <= stream.resumed[0]


async def test_few_deferrals_end_in_one_turn():
    """Streams that are due together are resumed in the order of their due times, a few in each turn."""
    governor, streams = await saturated(), [Stream() for _ in range(10 * RESUMED_PER_TURN)]
    due = sorted((governor.defer(stream, deadline_s=FAR_S), number) for number, stream in enumerate(streams))
    time.sleep(2 * MAX_S)  # noqa: ASYNC251  the loop is late: all of them are due when it turns again
    counts = []
    while not counts or counts[-1] < len(streams):
        await asyncio.sleep(0)
        counts.append(sum(1 for stream in streams if stream.resumed))
    governor.stop()

    assert max(after - before for before, after in itertools.pairwise([0, *counts])) <= RESUMED_PER_TURN
    resumed = sorted((stream.resumed[0], number) for number, stream in enumerate(streams))
    assert [number for _, number in due] == [number for _, number in resumed]


async def test_nothing_is_deferred_shortly_before_the_deadline():
    """A read that could end after the deadline is not deferred: what has arrived is passed on."""
    governor, stream = await saturated(), Stream()
    governor.defer(stream, deadline_s=time.monotonic() + MAX_S)
    governor.stop()

    assert [] == stream.deferred


async def test_a_stream_that_has_ended_is_not_deferred():
    """A stream whose rest was read already is not resumed later."""
    governor, stream = await saturated(), Stream(open=False)
    governor.defer(stream, deadline_s=FAR_S)
    governor.stop()

    assert [] == stream.resumed
    assert 0 == governor.deferrals


async def test_stop_ends_every_deferral():
    """Before calls are aborted, every deferred read is resumed, and none is deferred any more."""
    governor, streams = await saturated(), [Stream() for _ in range(3 * RESUMED_PER_TURN)]
    for stream in streams:
        governor.defer(stream, deadline_s=FAR_S)
    governor.stop()
    governor.opened()

    assert all(stream.resumed for stream in streams)
    assert 0.0 == governor.interval_s


@pytest.mark.parametrize("max_interval_s", [0, 0.0])
async def test_zero_switches_deferrals_off(max_interval_s):
    """With a longest interval of 0 nothing is measured and nothing deferred."""
    governor, tasks = governor_of(max_interval_s=max_interval_s), len(asyncio.get_running_loop()._scheduled)
    for _ in range(STREAMS):
        governor.opened()

    assert 0.0 == governor.interval_s
    assert tasks == len(asyncio.get_running_loop()._scheduled)


async def test_an_idle_process_defers_nothing():
    """While the process is idle the interval stays zero. The load is sampled only while a stream is open."""
    samples = []
    governor = governor_of(thread_s=lambda: float(bool(samples.append(0))))
    for _ in range(10):
        governor.opened()
    await eventually(lambda: len(samples) > 3)
    assert 0.0 == governor.interval_s
    for _ in range(10):
        governor.closed()
    await asyncio.sleep(0.1)
    taken = len(samples)
    await asyncio.sleep(0.2)

    assert taken == len(samples)


async def test_an_interval_ends_with_its_streams():
    """The interval is bounded by the number of open streams, and zero without one."""
    governor = await saturated()
    for _ in range(STREAMS - 20):
        governor.closed()
    await eventually(lambda: governor.interval_s == 20 * STREAM_CEILING_S)
    for _ in range(20):
        governor.closed()

    await eventually(lambda: governor.interval_s == 0.0)


@pytest.mark.parametrize(
    ("cpus", "thread_s", "process_s", "busy"),
    [
        (4.0, 0.5, 1.0, 0.5),  # the loop's thread is the limit
        (1.0, 0.5, 0.9, 0.9),  # gRPC's threads share the only CPU
        (0.5, 0.25, 0.25, 0.5),  # a quota of half a CPU
        (0.5, 0.2, 0.5, 1.0),
    ],
)
def test_cpu_time_is_measured_against_what_the_process_may_use(cpus, thread_s, process_s, busy):
    """The busy fraction is that of the scarcer resource: the loop's thread, or the CPUs of the process."""
    meter = CpuMeter(capacity_cpus=cpus)

    assert busy == pytest.approx(meter.busy((1.0, 2.0), (1.0 + thread_s, 2.0 + process_s), 1.0))
