import math
import signal
from pathlib import Path

import pytest

from togetherchat_server.config import Configuration, ProviderConfig, Settings
from togetherchat_server.supervisor.actions import Announce, Exit, LogMessage, Send, Start
from togetherchat_server.supervisor.control import (
    REPORT_BYTES_MAX,
    VARIABLE,
    Assignment,
    Report,
    Role,
    WorkerPhase,
)
from togetherchat_server.supervisor.cpus import bounded_by_quota, usable_cpus
from togetherchat_server.supervisor.fleet import HURRY_S, RESTORE_S, STOP_MARGIN_S, Fleet, FleetLimits
from togetherchat_server.supervisor.worker_process import (
    BACKOFF_MAX_S,
    HEALTHY_S,
    START_S,
    backoff_s,
    ending,
    import_flags,
)

SILENCE_S = 8.0
PROPAGATION_S = 5.0
DRAIN_S = 30.0
KILLED = -signal.SIGKILL
SIMULATOR = "http://127.0.0.1:9/v1"


class Story:
    """A fleet and its time: tell what happens, read what is decided."""

    def __init__(self, *, workers=2, sandbox=False):
        limits = FleetLimits(
            heartbeat_timeout_s=SILENCE_S, drain_delay_s=PROPAGATION_S, drain_timeout_s=DRAIN_S
        )
        self.now = 1000.0
        self.fleet = Fleet(workers=workers, sandbox=sandbox, limits=limits, now=self.now)
        self.members = {}
        self.notes = []
        self.simulators = []

    def after(self, seconds):
        """Time passes; what is decided then, without the notes."""
        self.now += seconds
        return self.decided()

    def decided(self):
        words = []
        for action in self.fleet.decide(self.now):
            match action:
                case Start():
                    self.members[name(action.worker)] = action.worker
                    action.worker.pid = 100 + action.worker.id
                    self.simulators.append(action.simulator)
                    words.append(f"start {name(action.worker)}")
                case Send():
                    words.append(f"{action.number.name} {name(action.worker)}")
                case Announce():
                    words.append("announce")
                case LogMessage():
                    self.notes.append(action.text)
                case Exit():
                    words.append("end" if action.clean else f"end: {action.problem or 'not clean'}")
        return words

    def report(self, who, phase=WorkerPhase.SERVING, **fields):
        self.fleet.heard(self.members[who].id, Report(phase=phase, **fields), self.now)
        return self.decided()

    def gone(self, who, code=KILLED):
        self.fleet.gone(self.members.pop(who).id, code, self.now)
        return self.decided()

    def all_report(self, seconds=0.0):
        """Time passes in which everyone says that it serves."""
        until = self.now + seconds
        while True:
            for who in list(self.members):
                address = SIMULATOR if who == "sandbox" else ""
                report = Report(phase=WorkerPhase.SERVING, address=address)
                self.fleet.heard(self.members[who].id, report, self.now)
            if self.now >= until:
                return self.decided()
            self.now = min(until, self.now + 1)

    def stop(self, number=signal.SIGTERM):
        self.fleet.stop(number)
        return self.decided()

    def roll(self):
        self.fleet.roll()
        return self.decided()

    def states(self):
        return [row["state"] for row in self.fleet.roster(self.now)]


def name(member):
    """`2#3`: the third process that was started, for place 2."""
    return "sandbox" if member.role is Role.SANDBOX else f"{member.slot}#{member.id}"


def serving(**fields):
    story = Story(**fields)
    story.decided()
    story.all_report()
    story.all_report()
    return story


def test_every_place_is_filled_at_the_start():
    """All workers start at once; ready and announced with the first that serves."""
    story = Story()

    assert ["start 1#1", "start 2#2"] == story.decided()
    assert [] == story.report("1#1", WorkerPhase.STARTING)
    assert not story.fleet.ready
    assert ["announce"] == story.report("2#2")
    assert story.fleet.ready
    assert [] == story.report("1#1")


def test_workers_wait_for_the_simulator_they_ask():
    """The sandbox first, then workers that know its address."""
    story = Story(sandbox=True)

    assert ["start sandbox"] == story.decided()
    assert ["start 1#2", "start 2#3"] == story.report("sandbox", address=SIMULATOR)
    assert ["", SIMULATOR, SIMULATOR] == story.simulators


def test_a_simulator_that_dies_comes_back_at_its_address():
    """The workers go on, and need to be told nothing."""
    story = Story(sandbox=True)
    story.decided()
    story.report("sandbox", address=SIMULATOR)

    assert [] == story.gone("sandbox")
    assert ["start sandbox"] == story.after(0.1)
    assert SIMULATOR == story.simulators[-1]


def test_a_worker_that_dies_is_replaced_alone():
    """A tenth of a second later, under the same number; the other is left in peace."""
    story = serving()

    assert [] == story.gone("1#1")
    assert story.fleet.ready
    assert ["start 1#3"] == story.after(0.1)
    assert ["worker 1 (pid 101) died of SIGKILL; a new one in 0.1 s"] == story.notes


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 0.1), (2, 0.2), (3, 0.4), (6, 3.2), (7, 5.0), (1000, 5.0)]
)
def test_the_back_off_doubles_up_to_a_bound(failures, seconds):
    """A first crash costs a moment, a loop of them never the machine."""
    assert seconds == backoff_s(failures)


def test_a_worker_that_keeps_dying_is_started_ever_more_slowly():
    """The pauses between its starts, as they are decided."""
    story = serving(workers=1)
    pauses = []
    for number in range(1, 9):
        (who,) = story.members
        story.gone(who)
        died_at = story.now
        while not story.after(0.1):
            pass
        pauses.append(round(story.now - died_at, 1))
        assert number == story.fleet.roster(story.now)[0]["restarts"]

    assert [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, BACKOFF_MAX_S, BACKOFF_MAX_S] == pauses


def test_a_worker_that_lasted_is_forgiven():
    """After ten seconds of service the back-off begins anew."""
    story = serving(workers=1)
    for who in ("1#1", "1#2", "1#3"):
        story.gone(who)
        story.after(BACKOFF_MAX_S)
    story.all_report(HEALTHY_S)

    assert [] == story.gone("1#4")
    assert ["start 1#5"] == story.after(0.1)


@pytest.mark.parametrize(
    ("told", "seconds", "decided"),
    [
        (WorkerPhase.SERVING, SILENCE_S - 0.1, []),
        (WorkerPhase.SERVING, SILENCE_S, ["SIGKILL 1#1"]),
        (WorkerPhase.STOPPING, SILENCE_S, ["SIGKILL 1#1"]),
        (WorkerPhase.STARTING, SILENCE_S - 0.1, []),
        (WorkerPhase.STARTING, SILENCE_S, ["SIGKILL 1#1"]),
        (None, START_S - 0.1, []),
        (None, START_S, ["SIGKILL 1#1"]),
    ],
)
def test_silence_is_judged_by_what_was_said_last(told, seconds, decided):
    """Who never spoke is starting, and has more time; who spoke and fell silent hangs."""
    story = Story(workers=1)
    story.decided()
    if told is not None:
        story.report("1#1", told)

    assert decided == story.after(seconds)


def test_a_start_that_never_ends_is_ended():
    """Signs of life alone are no service."""
    story = Story(workers=1)
    story.decided()
    for _ in range(int(START_S)):
        assert [] == story.report("1#1", WorkerPhase.STARTING)
        story.now += 1

    assert ["SIGKILL 1#1"] == story.report("1#1", WorkerPhase.STARTING)


def test_a_worker_is_killed_once_and_counts_no_more():
    """What hangs is not ready, and not killed again until it is gone."""
    story = serving(workers=1)

    assert ["SIGKILL 1#1"] == story.after(SILENCE_S)
    assert not story.fleet.ready
    assert [] == story.after(1)
    assert ["killed"] == story.states()
    assert [] == story.gone("1#1")
    assert ["start 1#2"] == story.after(0.1)


def test_what_a_dead_process_said_is_not_heard():
    """A report that was on its way finds nobody."""
    story = serving(workers=1)
    member = story.members["1#1"]
    story.gone("1#1")

    story.fleet.heard(member.id, Report(phase=WorkerPhase.SERVING), story.now)
    story.fleet.gone(member.id, 0, story.now)

    assert not story.fleet.ready
    assert ["waiting"] == story.states()


@pytest.mark.parametrize("failure", ["", "cannot serve: no such luck"])
def test_a_start_that_fails_again_and_again_is_given_up(failure):
    """Three times the same place, nobody ever served: the others are sent home, the reason stands."""
    story = Story()
    story.decided()
    for who in ("1#1", "1#3", "1#4"):
        story.report(who, WorkerPhase.FAILED, failure=failure)
        last = story.gone(who, code=1)
        if who != "1#4":
            story.after(BACKOFF_MAX_S)

    assert ["SIGTERM 2#2", "SIGTERM 2#2"] == last
    reason = failure or "exited with status 1"
    assert f"worker 1 (pid 104) {reason}; given up" == story.notes[-1]
    assert [f"end: the workers cannot start: {reason}"] == story.gone("2#2", code=-signal.SIGTERM)


def test_once_somebody_served_nothing_is_given_up():
    """A place that fails at run time is tried for ever: its sibling serves."""
    story = serving()
    for number in range(20):
        assert not any(
            word.startswith(("end", "SIG")) for word in story.gone(f"1#{number + 1 + (number > 0)}")
        )
        assert [f"start 1#{number + 3}"] == story.all_report(BACKOFF_MAX_S)


def test_alive_as_long_as_it_may_help_itself():
    """Dead after a minute without anyone who serves, whatever was tried."""
    story = serving(workers=1)
    story.gone("1#1")

    story.now += RESTORE_S - 0.1
    assert story.fleet.alive(story.now)
    story.now += 0.1
    assert not story.fleet.alive(story.now)


def test_the_first_signal_is_passed_on_once_and_waited_for():
    """Not ready at once; nothing is started any more; the end is clean when the last is gone."""
    story = serving()

    assert ["SIGTERM 1#1", "SIGTERM 2#2"] == story.stop()
    assert not story.fleet.ready
    assert story.fleet.alive(story.now)
    story.report("1#1", WorkerPhase.STOPPING)
    story.report("2#2", WorkerPhase.STOPPING)
    assert [] == story.gone("1#1", code=0)
    assert [] == story.after(1)
    assert ["end"] == story.gone("2#2", code=0)


def test_an_interrupt_is_passed_on_as_one():
    """SIGINT skips the propagation, so it must reach the workers as it is."""
    assert ["SIGINT 1#1", "SIGINT 2#2"] == serving().stop(signal.SIGINT)


def test_a_second_signal_is_passed_on_and_leaves_little_time():
    """It hurries everyone; who does not end by then is killed."""
    story = serving(workers=1)
    story.stop()

    story.stop()
    assert [] == story.after(HURRY_S - 0.1)
    assert ["SIGKILL 1#1"] == story.after(0.1)


@pytest.mark.parametrize(
    ("first", "second", "sent"),
    [
        (signal.SIGTERM, signal.SIGTERM, ["SIGTERM 1#1", "SIGINT 1#1"]),
        (signal.SIGTERM, signal.SIGINT, ["SIGTERM 1#1", "SIGINT 1#1"]),
        (signal.SIGINT, signal.SIGINT, ["SIGINT 1#1", "SIGTERM 1#1"]),
        (signal.SIGINT, signal.SIGTERM, ["SIGINT 1#1", "SIGTERM 1#1"]),
    ],
)
def test_two_signals_are_two(first, second, sent):
    """Passed on as different ones: of two alike that come close together a process sees one."""
    story = serving(workers=1)
    story.fleet.stop(first)
    story.fleet.stop(second)

    assert sent == story.decided()


def test_what_outlasts_the_drain_is_killed_and_the_end_is_not_clean():
    """Propagation, drain and a margin; then the process, and the status says so."""
    story = serving(workers=1)
    story.stop()
    bound_s = PROPAGATION_S + DRAIN_S + STOP_MARGIN_S
    story.all_report(bound_s - 1)

    assert [] == story.after(0.9)
    assert ["SIGKILL 1#1"] == story.after(0.1)
    assert ["end: not clean"] == story.gone("1#1")


def test_one_that_hangs_in_its_drain_is_killed_early():
    """Silence is silence."""
    story = serving(workers=1)
    story.stop()

    assert ["SIGKILL 1#1"] == story.after(SILENCE_S)


def test_a_stop_during_the_start_is_clean():
    """A process that was still loading dies of SIGTERM as it is, and is never sent SIGINT."""
    story = Story(workers=1)
    story.decided()

    assert ["SIGTERM 1#1"] == story.stop(signal.SIGINT)
    assert ["end"] == story.gone("1#1", code=-signal.SIGTERM)


def test_a_stop_during_the_back_off_ends_at_once():
    """There is nobody to wait for, and nobody new."""
    story = serving(workers=1)
    story.gone("1#1")

    assert ["end"] == story.stop()


def test_the_simulator_outlives_the_workers():
    """Their calls need it to the end."""
    story = serving(workers=1, sandbox=True)

    assert ["SIGTERM 1#2"] == story.stop()
    assert ["SIGTERM sandbox"] == story.gone("1#2", code=0)
    assert [] == story.after(1)
    assert ["end"] == story.gone("sandbox", code=0)


def test_a_rolling_restart_replaces_one_after_the_other():
    """A new one serves before an old one is told to go, and the next waits until it went."""
    story = serving()

    assert ["start 1#3"] == story.roll()
    assert [] == story.report("1#3", WorkerPhase.STARTING)
    assert ["SIGHUP 1#1"] == story.report("1#3")
    assert [] == story.report("1#1", WorkerPhase.STOPPING)
    assert ["serving", "serving", "stopping"] == story.states()
    assert ["start 2#4"] == story.gone("1#1", code=0)
    assert ["SIGHUP 2#2"] == story.report("2#4")
    assert [] == story.gone("2#2", code=0)
    assert [0, 0] == [row["restarts"] for row in story.fleet.roster(story.now)]
    assert "rolling restart: every worker is new" == story.notes[-1]


def test_a_replacement_that_fails_ends_the_rolling_restart():
    """Better an old worker than none: a setting that is wrong by now costs nothing."""
    story = serving()
    story.roll()

    assert [] == story.gone("1#3", code=2)
    assert [] == story.all_report(60)
    assert ["serving", "serving"] == story.states()
    assert "rolling restart given up: the new worker 1 (pid 103) exited with status 2" == story.notes[-1]


def test_an_old_worker_that_dies_meanwhile_is_replaced_by_its_replacement():
    """Nothing is started twice, and the rest of the round goes on."""
    story = serving()
    story.roll()

    assert ["start 2#4"] == story.gone("1#1")
    assert [] == story.report("1#3")
    assert ["SIGHUP 2#2"] == story.report("2#4")
    assert [] == story.gone("2#2", code=0)
    assert ["serving", "serving"] == story.states()


def test_an_old_worker_that_does_not_go_is_killed():
    """The drain and a margin; the next one's turn comes after that."""
    story = serving()
    story.roll()
    story.report("1#3")
    story.all_report(DRAIN_S + STOP_MARGIN_S - 1)

    assert ["SIGKILL 1#1"] == story.after(1)
    assert ["start 2#4"] == story.gone("1#1")


def test_an_old_worker_killed_in_a_rolling_restart_does_not_spoil_the_end():
    """The status of the end speaks of the end."""
    story = serving(workers=1)
    story.roll()
    story.report("1#2")
    story.gone("1#1")
    story.stop()

    assert ["end"] == story.gone("1#2", code=0)


def test_a_stop_in_a_rolling_restart_does_not_hurry_the_one_that_leaves():
    """It has had its signal: a second would cut its calls."""
    story = serving()
    story.roll()
    story.report("1#3")

    assert ["SIGTERM 2#2", "SIGTERM 1#3"] == story.stop()
    assert ["SIGINT 1#1", "SIGINT 2#2", "SIGINT 1#3"] == story.stop()


def test_a_second_rolling_restart_includes_what_the_first_has_started():
    """What was read before the second request is old by then."""
    story = serving(workers=1)
    story.roll()

    assert [] == story.roll()
    assert ["SIGHUP 1#1"] == story.report("1#2")
    assert ["start 1#3"] == story.gone("1#1", code=0)


def test_a_rolling_restart_waits_for_who_is_still_starting():
    """A place without service has nothing to hand over."""
    story = Story(workers=1)
    story.decided()

    assert [] == story.roll()
    assert ["announce"] == [word for word in story.report("1#1") if word == "announce"]
    assert {"1#1", "1#2"} == set(story.members)


def test_no_rolling_restart_while_stopping():
    """The last word is stop."""
    story = serving(workers=1)
    story.stop()

    assert [] == story.roll()


def test_the_roster_says_how_everyone_is():
    """What `/workers` answers: places, processes, calls, and how fresh that is."""
    story = serving(sandbox=True, workers=2)
    story.report("1#2", in_flight=7)
    story.gone("2#3")
    story.now += 0.04

    assert [
        {"role": "sandbox", "slot": 0, "restarts": 0, "state": "serving", "pid": 101, "in_flight": 0, "heard_s_ago": 0.0},
        {"role": "worker", "slot": 1, "restarts": 0, "state": "serving", "pid": 102, "in_flight": 7, "heard_s_ago": 0.0},
        {"role": "worker", "slot": 2, "restarts": 1, "state": "waiting", "starts_in_s": 0.1},
    ] == story.fleet.roster(story.now)  # fmt: skip


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exited with status 0"),
        (3, "exited with status 3"),
        (-9, "died of SIGKILL"),
        (-99, "died of signal 99"),
    ],
)
def test_an_end_is_told_in_words(code, words):
    """Python's return codes, for people."""
    assert words == ending(code)


@pytest.mark.parametrize(
    ("cpus", "quota", "workers"),
    [
        (4, "", 4),
        (4, "max 100000\n", 4),
        (4, "200000 100000\n", 2),
        (4, "150000 100000\n", 2),
        (4, "10000 100000\n", 1),
        (2, "800000 100000\n", 2),
        (4, "nonsense", 4),
        (4, "1 0", 4),
        (0, "", 1),
    ],
)
def test_auto_is_the_cpus_within_the_quota(cpus, quota, workers):
    """A container's share counts, rounded up, never below one."""
    assert workers == bounded_by_quota(cpus, quota)


def test_this_machine_has_a_cpu():
    """The real files are readable, or absent, and either is fine."""
    assert 1 <= usable_cpus() < math.inf


def test_an_assignment_travels_through_the_environment():
    """What is told arrives, and nobody else has one."""
    assignment = Assignment(
        role=Role.WORKER,
        control=5,
        heartbeat_s=1.0,
        grpc_listen="127.0.0.1:1",
        health_listen=None,
        simulator="",
    )

    assert assignment == Assignment.of({VARIABLE: assignment.to_text()})
    assert None is Assignment.of({})


@pytest.mark.parametrize("simulator", ["", SIMULATOR])
def test_an_assignment_decides_the_addresses_and_nothing_else(simulator):
    """Ports are the supervisor's, the admin port is its own, and the simulator has no key."""
    given = Configuration(
        settings=Settings(drain_timeout_s=7), upstream=ProviderConfig(base_url="http://x/v1", key=None)
    )
    assignment = Assignment(
        role=Role.WORKER,
        control=5,
        heartbeat_s=1.0,
        grpc_listen="[::1]:7",
        http_listen="h:9",
        health_listen="h:8",
        simulator=simulator,
    )

    configuration = assignment.applied_to(given)

    expected = Settings(
        drain_timeout_s=7, grpc_listen="[::1]:7", http_listen="h:9", health_listen="h:8", admin_listen=None
    )
    assert expected == configuration.settings
    assert ProviderConfig(base_url=simulator or "http://x/v1", key=None) == configuration.upstream


def test_a_report_fits_its_packet_whatever_went_wrong():
    """A long reason is cut; every character of it may need six bytes."""
    packet = Report(phase=WorkerPhase.FAILED, failure="\u2028" * 10_000).to_packet()

    assert len(packet) <= REPORT_BYTES_MAX
    assert "\u2028" * 500 == Report.from_packet(packet).failure


@pytest.mark.parametrize(
    ("path", "flags"),
    [(["", "/lib"], ()), (["/here", "/lib"], ()), (["/usr/bin", "/lib"], ("-P",))],
    ids=["of the interpreter", "of -m", "of a script"],
)
def test_workers_import_from_where_the_supervisor_does(path, flags):
    """`-m` puts the working directory first: only where it is on the path already."""
    assert flags == import_flags(path, Path("/here"))
