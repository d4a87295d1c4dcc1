"""Gauges and counters read at a scrape, and the deltas that a worker sends."""

import asyncio

from support.records import record
from togetherchat_server.supervisor.control import Report, WorkerPhase
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.collector import MetricsCollector, ProcessInfo
from togetherchat_server.telemetry.metrics.event_loop_lag import EventLoopLag
from togetherchat_server.telemetry.metrics.store import MetricStore
from togetherchat_server.telemetry.metrics.wire import (
    PACKET_BYTES_MAX,
    Snapshot,
    from_packet,
    is_snapshot,
    to_packets,
)

LIMITS = (("x-ratelimit-limit", "100"), ("x-ratelimit-remaining", "98.5"), ("x-ratelimit-reset", "soon"))


class Fixture:
    """A collector, the numbers that its callbacks return, and its clock."""

    def __init__(self):
        self.now_s = 1000.0
        self.dropped = 0
        info = ProcessInfo(version="1.2.3", max_concurrent_calls=10, wall_clock=lambda: self.now_s)
        self.collector = MetricsCollector(info, ready=lambda: True)
        self.collector.gauges[names.CALLS_IN_FLIGHT,] = lambda: 4
        self.collector.gauges[names.ASYNCIO_TASKS,] = lambda: 7  # no loop runs in most of these tests
        self.collector.counters[names.LOG_LINES_DROPPED,] = lambda: self.dropped
        self.sink = self.collector.sink(models={"some/model"})


def test_gauges_are_read_at_the_scrape():
    """Callbacks of the parts, constants of the process, and its resources."""
    gauges = Fixture().collector.snapshot().gauges

    assert (4, 7, 10, 1) == tuple(
        gauges[name,]
        for name in (names.CALLS_IN_FLIGHT, names.ASYNCIO_TASKS, names.MAX_CONCURRENT_CALLS, names.READY)
    )
    assert 1000.0 == gauges[names.PROCESS_START_TIME,]
    assert gauges[names.PYTHON_ALLOCATED_BLOCKS,] > 0
    assert {"1.2.3"} == {key[1] for key in gauges if key[0] == names.BUILD_INFO}


def test_a_counter_that_another_part_keeps_is_counted_once():
    """However often it is read."""
    fixture = Fixture()
    read = []
    for fixture.dropped in (3, 3, 5):
        read.append(fixture.collector.snapshot().store.counters[names.LOG_LINES_DROPPED,])

    assert [3, 3, 5] == read


def test_the_providers_rate_limits_are_shown_by_model():
    """Numbers only, with the time of the update, so that an old value can be recognised."""
    fixture = Fixture()
    fixture.sink(record(rate_limits=LIMITS))

    assert {
        (names.UPSTREAM_RATE_LIMIT, "some/model", "ratelimit-limit"): 100,
        (names.UPSTREAM_RATE_LIMIT, "some/model", "ratelimit-remaining"): 98,
        (names.UPSTREAM_RATE_LIMIT_UPDATED, "some/model"): 1000.0,
    } == fixture.collector.snapshot().store.last_values


def test_the_last_value_of_each_limit_is_shown():
    """A response without a header leaves its value as it is."""
    fixture = Fixture()
    fixture.sink(record(rate_limits=LIMITS))
    fixture.collector.snapshot()
    fixture.now_s += 5
    fixture.sink(record(rate_limits=(("x-ratelimit-remaining", "97"),)))
    values = fixture.collector.snapshot().store.last_values

    assert 100 == values[names.UPSTREAM_RATE_LIMIT, "some/model", "ratelimit-limit"]
    assert 97 == values[names.UPSTREAM_RATE_LIMIT, "some/model", "ratelimit-remaining"]
    assert 1005.0 == values[names.UPSTREAM_RATE_LIMIT_UPDATED, "some/model"]


def test_the_limits_of_a_callers_own_key_are_not_shown():
    """They say nothing of the service's account."""
    fixture = Fixture()
    fixture.sink(record(rate_limits=LIMITS, caller_key=True))

    assert {} == fixture.collector.snapshot().store.last_values


def test_deltas_are_drained_once():
    """The next ones hold only what was counted since."""
    fixture = Fixture()
    drained = []
    for calls in (2, 0, 1):
        for _ in range(calls):
            fixture.sink(record(rate_limits=LIMITS))
        store = fixture.collector.drain_deltas().store
        counted = sum(number for key, number in store.counters.items() if key[0] == names.CALLS)
        observed = sum(
            sum(histogram[:-1])
            for key, histogram in store.histograms.items()
            if key[0] == names.CALL_DURATION
        )
        drained.append((counted, observed, len(store.last_values)))

    assert [(2, 2, 3), (0, 0, 0), (1, 1, 3)] == drained


def test_the_live_window_keeps_what_is_drained():
    """The console of a worker shows the worker's calls, although its supervisor counts them."""
    fixture = Fixture()
    window = fixture.collector.open_live_window(clock=lambda: 0.0)
    for _ in range(2):
        fixture.sink(record())
        fixture.collector.drain_deltas()

    assert 2 == window.summary()["calls"]


def test_a_snapshot_survives_encoding():
    """Everything arrives, in bounded packets that cannot be confused with reports."""
    fixture = Fixture()
    for number in range(2000):
        fixture.sink(record(tenant=f"tenant-{number}", reason="UPSTREAM_RESET", rate_limits=LIMITS))
    fixture.sink(record(method="m" * 500, queued_s=0.1))
    sent = fixture.collector.drain_deltas()
    packets = list(to_packets(sent))
    received = [from_packet(packet) for packet in packets]

    assert len(packets) > 1
    assert max(map(len, packets)) <= PACKET_BYTES_MAX
    assert all(map(is_snapshot, packets))
    assert not is_snapshot(Report(phase=WorkerPhase.SERVING).to_packet())
    for part in ("counters", "histograms", "last_values"):
        assert getattr(sent.store, part) == {
            key: value for one in received for key, value in getattr(one.store, part).items()
        }
    assert sent.gauges == {key: value for one in received for key, value in one.gauges.items()}


def test_an_infinite_gauge_survives_encoding():
    """JSON has no infinity, but a time that never comes is one: that of keys that do not expire."""
    sent = Snapshot(store=MetricStore(), gauges={(names.API_KEY_NOT_AFTER,): float("inf")})
    (packet,) = to_packets(sent)

    assert sent.gauges == from_packet(packet).gauges


async def test_the_lag_of_the_event_loop_is_the_delay_of_a_timer():
    """A timer that fires early has a delay of 0."""
    lags = []
    lag = EventLoopLag(lags.append)
    lag._fire(asyncio.get_running_loop().time() - 0.5)
    lag._fire(asyncio.get_running_loop().time() + 9)
    lag.stop()

    assert lags[0] >= 0.5
    assert 0 == lags[1]
