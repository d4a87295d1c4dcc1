"""The figures of several workers as one, and the way there."""

import asyncio
import socket

from togetherchat_server.supervisor.control import Assignment, Role
from togetherchat_server.supervisor.fleet_metrics import FleetMetrics
from togetherchat_server.supervisor.heartbeat import Heartbeat
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.store import MetricStore
from togetherchat_server.telemetry.metrics.wire import Snapshot, from_packet, to_packets

LAG = (names.LAG,)
CALL = (names.CALLS, "grpc", "m", "OK", "none")


def told(calls=0, *, lags=(), gauges=None, words=None):
    tally = MetricStore()
    if calls:
        tally.count(CALL, calls)
    for seconds in lags:
        tally.observe(LAG, seconds)
    tally.words.update(words or {})
    return Snapshot(tally=tally, gauges=gauges or {})


def of(fleet, own=None):
    return fleet.figures(own=own or {}, restarts=0)


def test_counts_and_spreads_of_workers_add_up():
    """Each packet brings what is new."""
    fleet = FleetMetrics()
    fleet.heard(1, told(2, lags=[0.002]))
    fleet.heard(2, told(3, lags=[0.002, 5.0]))
    fleet.heard(1, told(1))
    figures = of(fleet)

    assert 6 == figures.tally.counts[CALL]
    assert [0, 2, *[0] * 9, 1, 5.004] == figures.tally.spreads[LAG]


def test_a_worker_that_goes_leaves_its_counts_and_takes_its_gauges():
    """No counter falls; what it held is not held any more."""
    fleet = FleetMetrics()
    fleet.heard(1, told(2, gauges={(names.IN_FLIGHT,): 5}))
    fleet.heard(2, told(3, gauges={(names.IN_FLIGHT,): 1}))
    before = of(fleet)
    fleet.gone(1)
    after = of(fleet)

    assert (5, 6) == (before.tally.counts[CALL], before.gauges[names.IN_FLIGHT,])
    assert (5, 1) == (after.tally.counts[CALL], after.gauges[names.IN_FLIGHT,])


def test_gauges_become_one_as_their_family_says():
    """Most add up; of limits the least counts, of facts any."""
    fleet = FleetMetrics()
    for member, number in ((1, 10), (2, 20)):
        fleet.heard(
            member,
            told(gauges={(names.TASKS,): number, (names.FILES_MAX,): number, (names.BUILD, "v", "p"): 1}),
        )
    gauges = of(fleet).gauges

    assert (30, 10, 1) == (gauges[names.TASKS,], gauges[names.FILES_MAX,], gauges[names.BUILD, "v", "p"])


def test_what_the_supervisor_knows_itself_holds():
    """A fleet that was told to stop is not ready, whatever a worker says."""
    fleet = FleetMetrics()
    fleet.heard(1, told(gauges={(names.READY,): 1}))

    assert 0 == of(fleet, {(names.READY,): 0}).gauges[names.READY,]


def test_the_last_word_on_a_limit_stands_whoever_heard_it():
    """Also when that worker has gone: the account's limits are not the worker's."""
    fleet, limit = FleetMetrics(), (names.LIMIT, "m", "ratelimit-remaining")
    fleet.heard(1, told(words={limit: 9}))
    fleet.heard(2, told(words={limit: 7}))
    fleet.gone(2)

    assert 7 == of(fleet).tally.words[limit]


async def test_figures_that_find_the_socket_full_are_told_later():
    """A supervisor that is slow loses reports, which the next one makes good, and no counts."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    taken = []

    def take():
        taken.append(len(taken))
        return to_packets(told(1))

    def heard():
        calls = 0
        while True:
            try:
                packet = ours.recv(65536)
            except BlockingIOError:
                return calls
            if packet.startswith(b"["):
                calls += from_packet(packet).tally.counts[CALL]

    assignment = Assignment(role=Role.WORKER, control=theirs.detach(), heartbeat_s=1000, grpc_listen="")
    with Heartbeat(assignment, in_flight=lambda: 0, on_cut=lambda: None, take_figures=take) as leash:
        while not leash._untold:
            leash._tell_figures()
        attempts = len(taken)
        leash._tell_figures()
        assert attempts == len(taken)  # nothing is taken that cannot be told
        received = heard()
        leash._tell_figures()
        received += heard()
    await asyncio.sleep(0)
    received += heard_all(ours)

    assert len(taken) == received
    ours.close()


def heard_all(ours):
    """The calls in what is left, to the end of the socket."""
    ours.setblocking(True)
    calls = 0
    while packet := ours.recv(65536):
        if packet.startswith(b"["):
            calls += from_packet(packet).tally.counts[CALL]
    return calls
