"""The merged metrics of several workers, and how they are sent."""

import asyncio
import socket

from togetherchat_server.supervisor.control import Assignment, Role
from togetherchat_server.supervisor.fleet_metrics import FleetMetrics
from togetherchat_server.supervisor.heartbeat import Heartbeat
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.store import MetricStore
from togetherchat_server.telemetry.metrics.wire import Snapshot, from_packet, to_packets

LAG = (names.EVENT_LOOP_LAG,)
CALL = (names.CALLS, "grpc", "m", "OK", "none")


def deltas(calls=0, *, lags=(), gauges=None, last_values=None):
    store = MetricStore()
    if calls:
        store.count(CALL, calls)
    for seconds in lags:
        store.observe(LAG, seconds)
    store.last_values.update(last_values or {})
    return Snapshot(store=store, gauges=gauges or {})


def merged(fleet, own=None):
    return fleet.snapshot(own=own or {}, own_counts={})


def test_counters_and_histograms_of_workers_are_added_up():
    """Each packet holds the counts since the previous one."""
    fleet = FleetMetrics()
    fleet.add(1, deltas(2, lags=[0.002]))
    fleet.add(2, deltas(3, lags=[0.002, 5.0]))
    fleet.add(1, deltas(1))
    snapshot = merged(fleet)

    assert 6 == snapshot.store.counters[CALL]
    assert [0, 2, *[0] * 9, 1, 5.004] == snapshot.store.histograms[LAG]


def test_a_worker_that_ends_keeps_its_counts_and_loses_its_gauges():
    """No counter decreases."""
    fleet = FleetMetrics()
    fleet.add(1, deltas(2, gauges={(names.CALLS_IN_FLIGHT,): 5}))
    fleet.add(2, deltas(3, gauges={(names.CALLS_IN_FLIGHT,): 1}))
    before = merged(fleet)
    fleet.remove_worker(1)
    after = merged(fleet)

    assert (5, 6) == (before.store.counters[CALL], before.gauges[names.CALLS_IN_FLIGHT,])
    assert (5, 1) == (after.store.counters[CALL], after.gauges[names.CALLS_IN_FLIGHT,])


def test_gauges_are_merged_as_their_definition_says():
    """Most are added up; of limits the smallest counts, of constants any."""
    fleet = FleetMetrics()
    for worker_id, number in ((1, 10), (2, 20)):
        fleet.add(
            worker_id,
            deltas(
                gauges={
                    (names.ASYNCIO_TASKS,): number,
                    (names.PROCESS_MAX_FDS,): number,
                    (names.BUILD_INFO, "v", "p"): 1,
                }
            ),
        )
    gauges = merged(fleet).gauges

    assert (30, 10, 1) == (
        gauges[names.ASYNCIO_TASKS,],
        gauges[names.PROCESS_MAX_FDS,],
        gauges[names.BUILD_INFO, "v", "p"],
    )


def test_the_supervisors_own_gauges_replace_the_workers():
    """A fleet that is stopping is not ready, even if a worker still is."""
    fleet = FleetMetrics()
    fleet.add(1, deltas(gauges={(names.READY,): 1}))

    assert 0 == merged(fleet, {(names.READY,): 0}).gauges[names.READY,]


def test_the_supervisors_own_counts_are_added_to_the_workers():
    """Its own lines of the audit log may be lost, too. A second snapshot adds nothing twice."""
    dropped = (names.AUDIT_LINES_DROPPED,)
    fleet, packet = FleetMetrics(), MetricStore()
    packet.count(dropped, 2)
    fleet.add(1, Snapshot(store=packet, gauges={}))
    snapshots = [fleet.snapshot(own={}, own_counts={dropped: 3}) for _ in range(2)]

    assert [5, 5] == [snapshot.store.counters[dropped] for snapshot in snapshots]


def test_the_last_value_of_a_limit_counts_whichever_worker_received_it():
    """Even when that worker has ended: the limits are the account's, not the worker's."""
    fleet, limit = FleetMetrics(), (names.UPSTREAM_RATE_LIMIT, "m", "ratelimit-remaining")
    fleet.add(1, deltas(last_values={limit: 9}))
    fleet.add(2, deltas(last_values={limit: 7}))
    fleet.remove_worker(2)

    assert 7 == merged(fleet).store.last_values[limit]


async def test_metrics_are_kept_while_the_socket_is_full():
    """A slow supervisor misses reports, which the next report replaces, but no counts."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    drains = []

    def drain():
        drains.append(len(drains))
        return to_packets(deltas(1))

    def receive():
        calls = 0
        while True:
            try:
                packet = ours.recv(65536)
            except BlockingIOError:
                return calls
            if packet.startswith(b"["):
                calls += from_packet(packet).store.counters[CALL]

    assignment = Assignment(role=Role.WORKER, control_fd=theirs.detach(), heartbeat_s=1000, grpc_listen="")
    with Heartbeat(
        assignment, in_flight=lambda: 0, on_supervisor_exit=lambda: None, drain_metrics=drain
    ) as heartbeat:
        while not heartbeat._unsent:
            heartbeat._send_metrics()
        attempts = len(drains)
        heartbeat._send_metrics()
        assert attempts == len(drains)  # nothing is drained that cannot be sent
        received = receive()
        heartbeat._send_metrics()
        received += receive()
    await asyncio.sleep(0)
    received += receive_rest(ours)

    assert len(drains) == received
    ours.close()


def receive_rest(ours):
    """Count the calls in the remaining packets, to the end of the stream."""
    ours.setblocking(True)
    calls = 0
    while packet := ours.recv(65536):
        if packet.startswith(b"["):
            calls += from_packet(packet).store.counters[CALL]
    return calls
