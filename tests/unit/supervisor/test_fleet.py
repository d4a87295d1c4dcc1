"""The decisions of a fleet, and the parts that they are made of."""

import math
import os
import signal
from pathlib import Path

import pytest

from togetherchat_server.config import Configuration, ProviderConfig, Settings
from togetherchat_server.supervisor import cpus
from togetherchat_server.supervisor.actions import (
    AnnounceServing,
    Exit,
    LogMessage,
    SendSignal,
    StartProcess,
)
from togetherchat_server.supervisor.control import (
    ASSIGNMENT_VARIABLE,
    Assignment,
    Report,
    Role,
    WorkerPhase,
)
from togetherchat_server.supervisor.cpus import bounded_by_quota, usable_cpus
from togetherchat_server.supervisor.fleet import (
    FORCED_STOP_S,
    STOP_MARGIN_S,
    UNHEALTHY_AFTER_S,
    Fleet,
    FleetLimits,
)
from togetherchat_server.supervisor.worker_process import import_flags
from togetherchat_server.supervisor.worker_state import (
    BACKOFF_MAX_S,
    HEALTHY_S,
    START_TIMEOUT_S,
    backoff_s,
    describe_exit,
)

HEARTBEAT_TIMEOUT_S = 8.0
DRAIN_DELAY_S = 5.0
DRAIN_TIMEOUT_S = 30.0
KILLED = -signal.SIGKILL
SANDBOX_URL = "http://127.0.0.1:9/v1"


class Scenario:
    """A fleet with a clock. Each method records an event and returns the actions as texts."""

    def __init__(self, *, workers=2, sandbox=False):
        limits = FleetLimits(
            heartbeat_timeout_s=HEARTBEAT_TIMEOUT_S,
            drain_delay_s=DRAIN_DELAY_S,
            drain_timeout_s=DRAIN_TIMEOUT_S,
        )
        self.now = 1000.0
        self.fleet = Fleet(workers=workers, sandbox=sandbox, limits=limits, now=self.now)
        self.workers = {}
        self.messages = []
        self.sandbox_urls = []

    def after(self, seconds):
        """Advance the clock."""
        self.now += seconds
        return self.actions()

    def actions(self):
        texts = []
        for action in self.fleet.next_actions(self.now):
            match action:
                case StartProcess():
                    self.workers[short_name(action.worker)] = action.worker
                    action.worker.pid = 100 + action.worker.id
                    self.sandbox_urls.append(action.sandbox_url)
                    texts.append(f"start {short_name(action.worker)}")
                case SendSignal():
                    texts.append(f"{action.number.name} {short_name(action.worker)}")
                case AnnounceServing():
                    texts.append("announce")
                case LogMessage():
                    self.messages.append(action.text)
                case Exit():
                    texts.append("end" if action.clean else f"end: {action.problem or 'not clean'}")
        return texts

    def report(self, name, phase=WorkerPhase.SERVING, **fields):
        self.fleet.report_received(self.workers[name].id, Report(phase=phase, **fields), self.now)
        return self.actions()

    def exit(self, name, code=KILLED):
        self.fleet.process_exited(self.workers.pop(name).id, code, self.now)
        return self.actions()

    def all_report(self, seconds=0.0):
        """Advance the clock while every process reports that it serves."""
        until = self.now + seconds
        while True:
            for name in list(self.workers):
                address = SANDBOX_URL if name == "sandbox" else ""
                report = Report(phase=WorkerPhase.SERVING, address=address)
                self.fleet.report_received(self.workers[name].id, report, self.now)
            if self.now >= until:
                return self.actions()
            self.now = min(until, self.now + 1)

    def stop(self, number=signal.SIGTERM):
        self.fleet.stop(number)
        return self.actions()

    def restart(self):
        self.fleet.start_rolling_restart()
        return self.actions()

    def states(self):
        return [row["state"] for row in self.fleet.roster(self.now)]


def short_name(worker):
    """Return `2#3` for the third process that was started, in slot 2."""
    return "sandbox" if worker.role is Role.SANDBOX else f"{worker.slot}#{worker.id}"


def serving(**fields):
    scenario = Scenario(**fields)
    scenario.actions()
    scenario.all_report()
    scenario.all_report()
    return scenario


def test_every_slot_is_filled_at_the_start():
    """All workers start at once. The first that serves makes the fleet ready and is announced."""
    scenario = Scenario()

    assert ["start 1#1", "start 2#2"] == scenario.actions()
    assert [] == scenario.report("1#1", WorkerPhase.STARTING)
    assert not scenario.fleet.ready
    assert ["announce"] == scenario.report("2#2")
    assert scenario.fleet.ready
    assert [] == scenario.report("1#1")


def test_workers_start_after_the_sandbox():
    """The sandbox starts first, and the workers receive its address."""
    scenario = Scenario(sandbox=True)

    assert ["start sandbox"] == scenario.actions()
    assert ["start 1#2", "start 2#3"] == scenario.report("sandbox", address=SANDBOX_URL)
    assert ["", SANDBOX_URL, SANDBOX_URL] == scenario.sandbox_urls


def test_a_sandbox_that_dies_is_restarted_at_its_address():
    """The workers continue and need no new address."""
    scenario = Scenario(sandbox=True)
    scenario.actions()
    scenario.report("sandbox", address=SANDBOX_URL)

    assert [] == scenario.exit("sandbox")
    assert ["start sandbox"] == scenario.after(0.1)
    assert SANDBOX_URL == scenario.sandbox_urls[-1]


def test_a_worker_that_dies_is_restarted_in_its_slot():
    """The restart follows after 0.1 s. The other worker is not affected."""
    scenario = serving()

    assert [] == scenario.exit("1#1")
    assert scenario.fleet.ready
    assert ["start 1#3"] == scenario.after(0.1)
    assert ["worker 1 (pid 101) was terminated by SIGKILL; restarting in 0.1 s"] == scenario.messages


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 0.1), (2, 0.2), (3, 0.4), (6, 3.2), (7, 5.0), (1000, 5.0)]
)
def test_the_back_off_doubles_up_to_a_bound(failures, seconds):
    """A single crash costs 0.1 s, and a crash loop waits at most 5 s between starts."""
    assert seconds == backoff_s(failures)


def test_the_back_off_grows_while_a_worker_keeps_dying():
    """The pauses between its starts follow the back-off."""
    scenario = serving(workers=1)
    pauses = []
    for number in range(1, 9):
        (name,) = scenario.workers
        scenario.exit(name)
        died_at = scenario.now
        while not scenario.after(0.1):
            pass
        pauses.append(round(scenario.now - died_at, 1))
        assert number == scenario.fleet.roster(scenario.now)[0]["restarts"]

    assert [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, BACKOFF_MAX_S, BACKOFF_MAX_S] == pauses


def test_ten_seconds_of_service_reset_the_back_off():
    """The next restart follows after the first step again."""
    scenario = serving(workers=1)
    for name in ("1#1", "1#2", "1#3"):
        scenario.exit(name)
        scenario.after(BACKOFF_MAX_S)
    scenario.all_report(HEALTHY_S)

    assert [] == scenario.exit("1#4")
    assert ["start 1#5"] == scenario.after(0.1)


@pytest.mark.parametrize(
    ("phase", "seconds", "actions"),
    [
        (WorkerPhase.SERVING, HEARTBEAT_TIMEOUT_S - 0.1, []),
        (WorkerPhase.SERVING, HEARTBEAT_TIMEOUT_S, ["SIGKILL 1#1"]),
        (WorkerPhase.STOPPING, HEARTBEAT_TIMEOUT_S, ["SIGKILL 1#1"]),
        (WorkerPhase.STARTING, HEARTBEAT_TIMEOUT_S - 0.1, []),
        (WorkerPhase.STARTING, HEARTBEAT_TIMEOUT_S, ["SIGKILL 1#1"]),
        (None, START_TIMEOUT_S - 0.1, []),
        (None, START_TIMEOUT_S, ["SIGKILL 1#1"]),
    ],
)
def test_a_worker_without_heartbeats_is_killed(phase, seconds, actions):
    """A worker that has sent no report has the start timeout, any other the heartbeat timeout."""
    scenario = Scenario(workers=1)
    scenario.actions()
    if phase is not None:
        scenario.report("1#1", phase)

    assert actions == scenario.after(seconds)


def test_a_worker_that_never_serves_is_killed():
    """Heartbeats do not extend the start timeout."""
    scenario = Scenario(workers=1)
    scenario.actions()
    for _ in range(int(START_TIMEOUT_S)):
        assert [] == scenario.report("1#1", WorkerPhase.STARTING)
        scenario.now += 1

    assert ["SIGKILL 1#1"] == scenario.report("1#1", WorkerPhase.STARTING)


def test_a_hanging_worker_is_killed_once_and_is_not_ready():
    """No second SIGKILL is sent until the process has exited."""
    scenario = serving(workers=1)

    assert ["SIGKILL 1#1"] == scenario.after(HEARTBEAT_TIMEOUT_S)
    assert not scenario.fleet.ready
    assert [] == scenario.after(1)
    assert ["killed"] == scenario.states()
    assert [] == scenario.exit("1#1")
    assert ["start 1#2"] == scenario.after(0.1)


def test_events_of_an_exited_process_are_ignored():
    """A report that was under way has no effect."""
    scenario = serving(workers=1)
    worker = scenario.workers["1#1"]
    scenario.exit("1#1")

    scenario.fleet.report_received(worker.id, Report(phase=WorkerPhase.SERVING), scenario.now)
    scenario.fleet.process_exited(worker.id, 0, scenario.now)

    assert not scenario.fleet.ready
    assert ["waiting"] == scenario.states()


@pytest.mark.parametrize("failure", ["", "cannot serve: address in use"])
def test_three_failures_of_a_slot_before_any_service_end_the_start(failure):
    """The other workers are stopped, and the exit names the failure."""
    scenario = Scenario()
    scenario.actions()
    for name in ("1#1", "1#3", "1#4"):
        scenario.report(name, WorkerPhase.FAILED, failure=failure)
        last = scenario.exit(name, code=1)
        if name != "1#4":
            scenario.after(BACKOFF_MAX_S)

    assert ["SIGTERM 2#2", "SIGTERM 2#2"] == last
    reason = failure or "exited with status 1"
    assert f"worker 1 (pid 104) {reason}; giving up" == scenario.messages[-1]
    assert [f"end: the workers cannot start: {reason}"] == scenario.exit("2#2", code=-signal.SIGTERM)


def test_after_any_service_a_failing_slot_is_retried_forever():
    """The other slot still serves."""
    scenario = serving()
    for number in range(20):
        assert not any(
            text.startswith(("end", "SIG")) for text in scenario.exit(f"1#{number + 1 + (number > 0)}")
        )
        assert [f"start 1#{number + 3}"] == scenario.all_report(BACKOFF_MAX_S)


def test_the_fleet_is_unhealthy_after_a_minute_without_service():
    """Until then restarts may still succeed."""
    scenario = serving(workers=1)
    scenario.exit("1#1")

    scenario.now += UNHEALTHY_AFTER_S - 0.1
    assert scenario.fleet.alive(scenario.now)
    scenario.now += 0.1
    assert not scenario.fleet.alive(scenario.now)


def test_the_first_signal_is_forwarded_once():
    """The fleet is not ready at once and starts nothing. The exit is clean when the last worker has exited."""
    scenario = serving()

    assert ["SIGTERM 1#1", "SIGTERM 2#2"] == scenario.stop()
    assert not scenario.fleet.ready
    assert scenario.fleet.alive(scenario.now)
    scenario.report("1#1", WorkerPhase.STOPPING)
    scenario.report("2#2", WorkerPhase.STOPPING)
    assert [] == scenario.exit("1#1", code=0)
    assert [] == scenario.after(1)
    assert ["end"] == scenario.exit("2#2", code=0)


def test_sigint_is_forwarded_as_sigint():
    """SIGINT skips the drain delay, so the workers must receive the same signal."""
    assert ["SIGINT 1#1", "SIGINT 2#2"] == serving().stop(signal.SIGINT)


def test_a_second_signal_is_forwarded_and_shortens_the_deadline():
    """A worker that has not exited five seconds later is killed."""
    scenario = serving(workers=1)
    scenario.stop()

    scenario.stop()
    assert [] == scenario.after(FORCED_STOP_S - 0.1)
    assert ["SIGKILL 1#1"] == scenario.after(0.1)


@pytest.mark.parametrize(
    ("first", "second", "sent"),
    [
        (signal.SIGTERM, signal.SIGTERM, ["SIGTERM 1#1", "SIGINT 1#1"]),
        (signal.SIGTERM, signal.SIGINT, ["SIGTERM 1#1", "SIGINT 1#1"]),
        (signal.SIGINT, signal.SIGINT, ["SIGINT 1#1", "SIGTERM 1#1"]),
        (signal.SIGINT, signal.SIGTERM, ["SIGINT 1#1", "SIGTERM 1#1"]),
    ],
)
def test_two_signals_are_forwarded_as_different_ones(first, second, sent):
    """A process receives two equal signals in quick succession as one."""
    scenario = serving(workers=1)
    scenario.fleet.stop(first)
    scenario.fleet.stop(second)

    assert sent == scenario.actions()


def test_a_worker_that_outlasts_the_drain_is_killed():
    """The deadline is drain delay, drain timeout and a margin. The exit is not clean."""
    scenario = serving(workers=1)
    scenario.stop()
    bound_s = DRAIN_DELAY_S + DRAIN_TIMEOUT_S + STOP_MARGIN_S
    scenario.all_report(bound_s - 1)

    assert [] == scenario.after(0.9)
    assert ["SIGKILL 1#1"] == scenario.after(0.1)
    assert ["end: not clean"] == scenario.exit("1#1")


def test_a_worker_that_hangs_in_its_drain_is_killed():
    """The heartbeat timeout applies during the drain too."""
    scenario = serving(workers=1)
    scenario.stop()

    assert ["SIGKILL 1#1"] == scenario.after(HEARTBEAT_TIMEOUT_S)


def test_a_stop_during_the_start_is_clean():
    """A process that is still loading is sent SIGTERM, never SIGINT, and its death by SIGTERM is expected."""
    scenario = Scenario(workers=1)
    scenario.actions()

    assert ["SIGTERM 1#1"] == scenario.stop(signal.SIGINT)
    assert ["end"] == scenario.exit("1#1", code=-signal.SIGTERM)


def test_a_stop_during_the_back_off_exits_at_once():
    """No process is running, and none is started."""
    scenario = serving(workers=1)
    scenario.exit("1#1")

    assert ["end"] == scenario.stop()


def test_the_sandbox_stops_after_the_workers():
    """The workers' calls need it until they finish."""
    scenario = serving(workers=1, sandbox=True)

    assert ["SIGTERM 1#2"] == scenario.stop()
    assert ["SIGTERM sandbox"] == scenario.exit("1#2", code=0)
    assert [] == scenario.after(1)
    assert ["end"] == scenario.exit("sandbox", code=0)


def test_a_rolling_restart_replaces_one_worker_at_a_time():
    """A new worker serves before the old one is stopped. The next slot waits until the old one has exited."""
    scenario = serving()

    assert ["start 1#3"] == scenario.restart()
    assert [] == scenario.report("1#3", WorkerPhase.STARTING)
    assert ["SIGHUP 1#1"] == scenario.report("1#3")
    assert [] == scenario.report("1#1", WorkerPhase.STOPPING)
    assert ["serving", "serving", "stopping"] == scenario.states()
    assert ["start 2#4"] == scenario.exit("1#1", code=0)
    assert ["SIGHUP 2#2"] == scenario.report("2#4")
    assert [] == scenario.exit("2#2", code=0)
    assert [0, 0] == [row["restarts"] for row in scenario.fleet.roster(scenario.now)]
    assert "rolling restart: all workers are replaced" == scenario.messages[-1]


def test_a_replacement_that_fails_aborts_the_rolling_restart():
    """The old worker continues, so an invalid setting costs nothing."""
    scenario = serving()
    scenario.restart()

    assert [] == scenario.exit("1#3", code=2)
    assert [] == scenario.all_report(60)
    assert ["serving", "serving"] == scenario.states()
    assert "rolling restart aborted: the new worker 1 (pid 103) exited with status 2" == scenario.messages[-1]


def test_a_replacement_takes_over_from_an_old_worker_that_dies():
    """No second process is started, and the rolling restart continues."""
    scenario = serving()
    scenario.restart()

    assert ["start 2#4"] == scenario.exit("1#1")
    assert [] == scenario.report("1#3")
    assert ["SIGHUP 2#2"] == scenario.report("2#4")
    assert [] == scenario.exit("2#2", code=0)
    assert ["serving", "serving"] == scenario.states()


def test_an_old_worker_that_does_not_exit_is_killed():
    """It has the drain timeout and a margin. The next slot follows after that."""
    scenario = serving()
    scenario.restart()
    scenario.report("1#3")
    scenario.all_report(DRAIN_TIMEOUT_S + STOP_MARGIN_S - 1)

    assert ["SIGKILL 1#1"] == scenario.after(1)
    assert ["start 2#4"] == scenario.exit("1#1")


def test_a_worker_killed_in_a_rolling_restart_leaves_the_exit_clean():
    """Only workers killed during the stop count."""
    scenario = serving(workers=1)
    scenario.restart()
    scenario.report("1#2")
    scenario.exit("1#1")
    scenario.stop()

    assert ["end"] == scenario.exit("1#2", code=0)


def test_a_stop_in_a_rolling_restart_does_not_signal_the_old_worker_again():
    """The old worker would take it for a second signal and abort its calls."""
    scenario = serving()
    scenario.restart()
    scenario.report("1#3")

    assert ["SIGTERM 2#2", "SIGTERM 1#3"] == scenario.stop()
    assert ["SIGINT 1#1", "SIGINT 2#2", "SIGINT 1#3"] == scenario.stop()


def test_a_second_rolling_restart_replaces_the_workers_of_the_first():
    """They may have read the settings before the second request."""
    scenario = serving(workers=1)
    scenario.restart()

    assert [] == scenario.restart()
    assert ["SIGHUP 1#1"] == scenario.report("1#2")
    assert ["start 1#3"] == scenario.exit("1#1", code=0)


def test_a_rolling_restart_waits_for_a_starting_worker():
    """A slot is replaced only once its worker serves."""
    scenario = Scenario(workers=1)
    scenario.actions()

    assert [] == scenario.restart()
    assert ["announce"] == [text for text in scenario.report("1#1") if text == "announce"]
    assert {"1#1", "1#2"} == set(scenario.workers)


def test_no_rolling_restart_while_stopping():
    """A stopping fleet ignores SIGHUP."""
    scenario = serving(workers=1)
    scenario.stop()

    assert [] == scenario.restart()


def test_the_roster_has_a_row_for_every_slot():
    """The rows of `/workers` show the processes, their calls and the age of the last report."""
    scenario = serving(sandbox=True, workers=2)
    scenario.report("1#2", in_flight=7)
    scenario.exit("2#3")
    scenario.now += 0.04

    assert [
        {"role": "sandbox", "slot": 0, "restarts": 0, "state": "serving", "pid": 101, "in_flight": 0, "last_report_age_s": 0.0},
        {"role": "worker", "slot": 1, "restarts": 0, "state": "serving", "pid": 102, "in_flight": 7, "last_report_age_s": 0.0},
        {"role": "worker", "slot": 2, "restarts": 1, "state": "waiting", "starts_in_s": 0.1},
    ] == scenario.fleet.roster(scenario.now)  # fmt: skip


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "exited with status 0"),
        (3, "exited with status 3"),
        (-9, "was terminated by SIGKILL"),
        (-99, "was terminated by signal 99"),
    ],
)
def test_an_exit_code_is_described(code, text):
    """Python's return codes become text."""
    assert text == describe_exit(code)


@pytest.mark.parametrize(
    ("cpus", "quota", "capacity"),
    [
        (4, "", 4),
        (4, "max 100000\n", 4),
        (4, "200000 100000\n", 2),
        (4, "150000 100000\n", 1.5),
        (4, "10000 100000\n", 0.1),
        (2, "800000 100000\n", 2),
        (4, "nonsense", 4),
        (4, "1 0", 4),
        (4, "0 100000", 4),
        (0, "", 1),
    ],
)
def test_the_capacity_is_bounded_by_the_quota(cpus, quota, capacity):
    """A container's quota may be a fraction of a CPU."""
    assert capacity == bounded_by_quota(cpus, quota)


@pytest.mark.parametrize(
    ("quota", "workers"), [("max 100000", 4), ("150000 100000", 2), ("200000 100000", 2), ("10000 100000", 1)]
)
def test_auto_is_the_number_of_cpus_within_the_quota(monkeypatch, tmp_path, quota, workers):
    """A quota is rounded up, and never below one worker."""
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(cpus, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(4)))

    assert workers == usable_cpus()


def test_this_machine_has_a_cpu():
    """The quota file may exist or not."""
    assert 1 <= usable_cpus() < math.inf


def test_an_assignment_round_trips_through_the_environment():
    """Without the variable there is no assignment."""
    assignment = Assignment(
        role=Role.WORKER,
        control_fd=5,
        heartbeat_s=1.0,
        grpc_listen="127.0.0.1:1",
        health_listen=None,
        sandbox_url="",
    )

    assert assignment == Assignment.from_environment({ASSIGNMENT_VARIABLE: assignment.to_text()})
    assert None is Assignment.from_environment({})


@pytest.mark.parametrize("sandbox_url", ["", SANDBOX_URL])
def test_an_assignment_changes_only_the_addresses_and_the_provider(sandbox_url):
    """The ports are the reserved ones, the admin port is off, and the sandbox has no key."""
    given = Configuration(
        settings=Settings(drain_timeout_s=7), provider=ProviderConfig(base_url="http://x/v1", key=None)
    )
    assignment = Assignment(
        role=Role.WORKER,
        control_fd=5,
        heartbeat_s=1.0,
        grpc_listen="[::1]:7",
        http_listen="h:9",
        health_listen="h:8",
        sandbox_url=sandbox_url,
    )

    configuration = assignment.applied_to(given)

    expected = Settings(
        drain_timeout_s=7, grpc_listen="[::1]:7", http_listen="h:9", health_listen="h:8", admin_listen=None
    )
    assert expected == configuration.settings
    assert ProviderConfig(base_url=sandbox_url or "http://x/v1", key=None) == configuration.provider


def test_a_report_is_below_4_kib():
    """A long failure is cut. JSON escapes each of these characters to six bytes."""
    packet = Report(phase=WorkerPhase.FAILED, failure="\u2028" * 10_000).to_packet()

    assert len(packet) <= 4096
    assert "\u2028" * 500 == Report.from_packet(packet).failure


@pytest.mark.parametrize(
    ("path", "flags"),
    [(["", "/lib"], ()), (["/here", "/lib"], ()), (["/usr/bin", "/lib"], ("-P",))],
    ids=["of the interpreter", "of -m", "of a script"],
)
def test_workers_import_from_where_the_supervisor_does(path, flags):
    """`-m` adds the working directory, which `-P` prevents if the supervisor does not import from there."""
    assert flags == import_flags(path, Path("/here"))
