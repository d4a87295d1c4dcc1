"""What is read when somebody asks, and what a worker hands over."""

import asyncio

from support.records import record
from togetherchat_server.supervisor.control import Report, WorkerPhase
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.collector import MetricsCollector, ProcessInfo
from togetherchat_server.telemetry.metrics.event_loop_lag import EventLoopLag
from togetherchat_server.telemetry.metrics.wire import PACKET_BYTES_MAX, from_packet, is_snapshot, to_packets

LIMITS = (("x-ratelimit-limit", "100"), ("x-ratelimit-remaining", "98.5"), ("x-ratelimit-reset", "soon"))


class Bench:
    """MetricsCollector, the numbers that they read, and their clock."""

    def __init__(self):
        self.now_s = 1000.0
        self.dropped = 0
        facts = ProcessInfo(version="1.2.3", max_concurrent_calls=10, wall_clock=lambda: self.now_s)
        reads = {
            "log_lines_dropped": lambda: self.dropped,
            "calls_in_flight": lambda: 4,
            "unheard_of": lambda: 1,
        }
        self.meters = MetricsCollector(reads, facts=facts, ready=lambda: True)
        self.sink = self.meters.sink(models={"some/model"})


def test_gauges_are_read_when_asked_for():
    """What `/vars` counts under its own names, and what never changes."""
    gauges = Bench().meters.figures().gauges

    assert (4, 10, 1) == tuple(gauges[name,] for name in (names.IN_FLIGHT, names.PLACES, names.READY))
    assert 1000.0 == gauges[names.STARTED,]
    assert {"1.2.3"} == {key[1] for key in gauges if key[0] == names.BUILD}


def test_a_total_that_others_keep_is_counted_once():
    """However often it is read."""
    bench = Bench()
    read = []
    for bench.dropped in (3, 3, 5):
        read.append(bench.meters.figures().tally.counts[names.LINES_DROPPED,])

    assert [3, 3, 5] == read


def test_the_limits_that_the_provider_told_are_shown_by_model():
    """Numbers alone; with the time, so that an old word is known for one."""
    bench = Bench()
    bench.sink(record(rate_limits=LIMITS))

    assert {
        (names.LIMIT, "some/model", "ratelimit-limit"): 100,
        (names.LIMIT, "some/model", "ratelimit-remaining"): 98,
        (names.LIMIT_TOLD, "some/model"): 1000.0,
    } == bench.meters.figures().tally.words


def test_the_limits_of_a_callers_own_key_are_nobodys_business():
    """They say nothing of the service's account."""
    bench = Bench()
    bench.sink(record(rate_limits=LIMITS, caller_key=True))

    assert {} == bench.meters.figures().tally.words


def test_what_is_taken_is_handed_over_once():
    """The next packet holds what came since."""
    bench = Bench()
    taken = []
    for calls in (2, 0, 1):
        for _ in range(calls):
            bench.sink(record(rate_limits=LIMITS))
        tally = bench.meters.take().tally
        counted = sum(number for key, number in tally.counts.items() if key[0] == names.CALLS)
        fallen = sum(sum(spread[:-1]) for key, spread in tally.spreads.items() if key[0] == names.DURATION)
        taken.append((counted, fallen, len(tally.words)))

    assert [(2, 2, 3), (0, 0, 0), (1, 1, 3)] == taken


def test_figures_survive_the_way():
    """Everything arrives, in packets that are bounded and are no reports."""
    bench = Bench()
    for number in range(2000):
        bench.sink(record(tenant=f"tenant-{number}", reason="UPSTREAM_RESET", rate_limits=LIMITS))
    bench.sink(record(method="m" * 500, queued_s=0.1))
    sent = bench.meters.take()
    packets = list(to_packets(sent))
    heard = [from_packet(packet) for packet in packets]

    assert len(packets) > 1
    assert max(map(len, packets)) <= PACKET_BYTES_MAX
    assert all(map(is_snapshot, packets))
    assert not is_snapshot(Report(phase=WorkerPhase.SERVING).to_packet())
    for part in ("counts", "spreads", "words"):
        assert getattr(sent.tally, part) == {
            k: v for one in heard for k, v in getattr(one.tally, part).items()
        }
    assert sent.gauges == {k: v for one in heard for k, v in one.gauges.items()}


async def test_a_loop_that_is_held_up_is_late():
    """The timer tells by how much; one that comes in time tells nothing to speak of."""
    late = []
    lag = EventLoopLag(late.append)
    lag._rang(asyncio.get_running_loop().time() - 0.5)
    lag._rang(asyncio.get_running_loop().time() + 9)
    lag.stop()

    assert late[0] >= 0.5
    assert 0 == late[1]
