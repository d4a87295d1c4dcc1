"""Every decision of the supervisor, without I/O. The time is an argument.

`report_received`, `process_exited`, `stop` and `start_rolling_restart` record what happened.
`next_actions` looks at the whole state and returns what to do now. It may be called at any time, so
nothing is lost when two things happen at once.
"""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, final

from togetherchat_server.supervisor.actions import (
    Action,
    AnnounceServing,
    Exit,
    LogMessage,
    SendSignal,
    StartProcess,
)
from togetherchat_server.supervisor.control import REPLACED_SIGNAL, Report, Role, WorkerPhase
from togetherchat_server.supervisor.roster import RosterRow, roster_row
from togetherchat_server.supervisor.worker_state import Slot, Worker, describe_exit, kill_reason

# Before any worker has served: this many failures of one slot end the start.
START_FAILURES_MAX: Final = 3
# How long a worker may take to close, beyond the drain.
STOP_MARGIN_S: Final = 5.0
# How long a worker may take to exit after a second signal.
FORCED_STOP_S: Final = 5.0
# Without a serving worker for this long, the supervisor reports itself unhealthy.
UNHEALTHY_AFTER_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetLimits:
    """The settings that the fleet needs."""

    heartbeat_timeout_s: float
    drain_delay_s: float
    drain_timeout_s: float


@final
class Fleet:
    """The workers, and their sandbox with `--sandbox`."""

    def __init__(self, *, workers: int, sandbox: bool, limits: FleetLimits, now: float) -> None:
        self._limits = limits
        self._slots = [Slot(number=number, role=Role.WORKER) for number in range(1, workers + 1)]
        self._sandbox = Slot(number=0, role=Role.SANDBOX) if sandbox else None
        self._workers: dict[int, Worker] = {}
        self._last_id = 0
        self._messages: list[LogMessage] = []
        self._to_replace: set[int] = set()
        """Workers that a rolling restart has yet to replace, by id."""
        self._signals: list[signal.Signals] = []
        self._forwarded = 0
        self._clean = True
        self._problem = ""
        self._sandbox_url = ""
        self._announced = False
        self._last_served_at = now

    def report_received(self, worker_id: int, report: Report, now: float) -> None:
        """Record a report. One of a process that has exited is ignored."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return
        worker.last_report_at = now
        worker.phase, worker.in_flight = report.phase, report.in_flight
        worker.address, worker.failure = report.address, report.failure
        if report.phase is WorkerPhase.SERVING and worker.serving_since is None:
            worker.serving_since = now
            if worker.role is Role.SANDBOX:
                self._sandbox_url = report.address

    def process_exited(self, worker_id: int, code: int, now: float) -> None:
        """Record that a process has exited or (with a code above 0) could not be started."""
        worker = self._workers.pop(worker_id, None)
        if worker is None:
            return
        self._to_replace.discard(worker_id)
        cause = worker.failure or describe_exit(code)
        slot = self._slot(worker)
        if self._stopping or worker.stopping:
            self._expected_exit(worker, code, cause)
        elif slot.replacement is worker:
            slot.replacement = None
            self._to_replace.clear()
            self._log(f"rolling restart aborted: the new {worker.name()} {cause}", warning=True)
        elif slot.replacement is not None:
            slot.current, slot.replacement = slot.replacement, None
            slot.restarts += 1
            self._log(f"{worker.name()} {cause}; its replacement takes over", warning=True)
        else:
            self._schedule_restart(slot, worker, cause, now)

    def stop(self, number: signal.Signals) -> None:
        """Record a signal to stop. The first starts the drain, the second ends it."""
        self._signals.append(number)

    def start_rolling_restart(self) -> None:
        """Replace every current worker, one after the other. Ignored while the fleet stops."""
        if not self._stopping:
            present = [(slot.current, slot.replacement) for slot in self._slots]
            self._to_replace = {worker.id for pair in present for worker in pair if worker is not None}
            self._log("rolling restart: replacing the workers one after the other")

    def next_actions(self, now: float) -> list[Action]:
        """Return what to do now, in order."""
        return list(self._next_actions(now))

    @property
    def ready(self) -> bool:
        """Whether the service accepts calls: a worker serves, and no signal to stop has arrived."""
        return not self._stopping and any(
            worker.serving for worker in self._workers.values() if worker.role is Role.WORKER
        )

    def alive(self, now: float) -> bool:
        """Return false if no worker has served for a minute, in spite of all restarts."""
        return self._stopping or self.ready or now - self._last_served_at < UNHEALTHY_AFTER_S

    @property
    def restarts(self) -> int:
        """The number of workers that exited unexpectedly and were replaced."""
        return sum(slot.restarts for slot in self._slots)

    def roster(self, now: float) -> list[RosterRow]:
        """Return a row for every slot, and for every replaced process that has not exited yet."""
        slots = [*([] if self._sandbox is None else [self._sandbox]), *self._slots]
        current = {slot.current.id for slot in slots if slot.current is not None}
        others = [worker for worker in self._workers.values() if worker.id not in current]
        return [roster_row(slot, slot.current, now) for slot in slots] + [
            roster_row(self._slot(worker), worker, now) for worker in others
        ]

    @property
    def _stopping(self) -> bool:
        return bool(self._signals)

    def _next_actions(self, now: float) -> Iterator[Action]:
        if self.ready:
            self._last_served_at = now
        if self._stopping:
            yield from self._forward_signals(now)
        else:
            yield from self._announce()
            yield from self._continue_rolling_restart(now)
            yield from self._fill_slots(now)
        yield from self._kill_overdue(now)
        messages, self._messages = self._messages, []
        yield from messages
        if self._stopping:
            yield from self._finish(now)

    def _slot(self, worker: Worker) -> Slot:
        if worker.role is Role.SANDBOX:
            assert self._sandbox is not None  # noqa: S101  only its slot starts one
            return self._sandbox
        return self._slots[worker.slot - 1]

    def _log(self, text: str, *, warning: bool = False) -> None:
        self._messages.append(LogMessage(text=text, warning=warning))

    def _expected_exit(self, worker: Worker, code: int, cause: str) -> None:
        """Record the exit of a process that was asked to stop."""
        slot = self._slot(worker)
        slot.current = None if slot.current is worker else slot.current
        slot.replacement = None if slot.replacement is worker else slot.replacement
        # A process that had not served yet may have had no signal handler: the signal kills it.
        if code != 0 and worker.serving_since is not None:
            self._clean = self._clean and not self._stopping
            self._log(f"{worker.name()} {cause}", warning=True)

    def _schedule_restart(self, slot: Slot, worker: Worker, cause: str, now: float) -> None:
        """Restart after the back-off. Give up if no worker ever served and the slot failed too often."""
        delay_s = slot.process_lost(worker, now)
        if self._announced or slot.failures < START_FAILURES_MAX:
            self._log(f"{worker.name()} {cause}; restarting in {delay_s:g} s", warning=True)
            return
        self._log(f"{worker.name()} {cause}; giving up", warning=True)
        self._problem = f"the workers cannot start: {cause}"
        self._signals = [signal.SIGTERM, signal.SIGTERM]

    def _announce(self) -> Iterator[Action]:
        if not self._announced and self.ready:
            self._announced = True
            yield AnnounceServing(sandbox_url=self._sandbox_url)

    def _fill_slots(self, now: float) -> Iterator[Action]:
        if self._sandbox is not None and self._sandbox.current is None and now >= self._sandbox.start_at:
            self._sandbox.current = self._new_worker(self._sandbox, now)
            yield StartProcess(worker=self._sandbox.current, sandbox_url=self._sandbox_url)
        if self._sandbox is not None and not self._sandbox_url:
            return
        for slot in self._slots:
            if slot.current is None and now >= slot.start_at:
                slot.current = self._new_worker(slot, now)
                yield StartProcess(worker=slot.current, sandbox_url=self._sandbox_url)

    def _new_worker(self, slot: Slot, now: float) -> Worker:
        self._last_id += 1
        worker = Worker(id=self._last_id, slot=slot.number, role=slot.role, started_at=now)
        self._workers[worker.id] = worker
        return worker

    def _continue_rolling_restart(self, now: float) -> Iterator[Action]:
        """Replace one slot at a time: start a process, drain the old one, go to the next slot."""
        for slot in self._slots:
            if slot.replacement is not None and slot.replacement.serving:
                yield from self._swap(slot, now)
        busy = any(slot.replacement for slot in self._slots)
        if not self._to_replace or busy or any(worker.stopping for worker in self._workers.values()):
            return
        slot = next(
            slot for slot in self._slots if slot.current is not None and slot.current.id in self._to_replace
        )
        if slot.current is not None and slot.current.serving:
            slot.replacement = self._new_worker(slot, now)
            yield StartProcess(worker=slot.replacement, sandbox_url=self._sandbox_url)

    def _swap(self, slot: Slot, now: float) -> Iterator[Action]:
        old, slot.current, slot.replacement = slot.current, slot.replacement, None
        slot.failures = 0
        if old is not None:
            self._to_replace.discard(old.id)
            old.stop_deadline = now + self._limits.drain_timeout_s + STOP_MARGIN_S
            yield SendSignal(worker=old, number=REPLACED_SIGNAL)
            if not self._to_replace:
                self._log("rolling restart: all workers are replaced")

    def _forward_signals(self, now: float) -> Iterator[Action]:
        """Forward each signal once to every worker that it concerns."""
        limits, other = self._limits, _other_signal(self._signals[0])
        while self._forwarded < len(self._signals):
            first, number = self._forwarded == 0, self._signals[self._forwarded]
            self._forwarded += 1
            left_s = limits.drain_delay_s + limits.drain_timeout_s + STOP_MARGIN_S if first else FORCED_STOP_S
            for worker in self._workers.values():
                # A worker that a rolling restart is stopping would treat it as its second signal and exit.
                if worker.role is Role.WORKER and not (first and worker.stopping):
                    worker.stop_deadline = min(worker.stop_deadline or now + left_s, now + left_s)
                    yield SendSignal(worker=worker, number=_suitable(worker, number if first else other))

    def _kill_overdue(self, now: float) -> Iterator[Action]:
        for worker in self._workers.values():
            reason = None if worker.killed else kill_reason(worker, now, self._limits.heartbeat_timeout_s)
            if reason is not None:
                worker.killed = True
                self._log(f"{worker.name()} {reason}: killed", warning=True)
                yield SendSignal(worker=worker, number=signal.SIGKILL)

    def _finish(self, now: float) -> Iterator[Action]:
        """Stop the sandbox last: the workers' calls need it until they finish."""
        if any(worker.role is Role.WORKER for worker in self._workers.values()):
            return
        for worker in self._workers.values():
            if not worker.stopping:
                worker.stop_deadline = now + FORCED_STOP_S
                yield SendSignal(worker=worker, number=signal.SIGTERM)
        if not self._workers:
            yield Exit(clean=self._clean and not self._problem, problem=self._problem)


def _other_signal(first: signal.Signals) -> signal.Signals:
    """Return a signal that differs from the first: a busy process receives two equal ones as one."""
    return signal.SIGINT if first is signal.SIGTERM else signal.SIGTERM


def _suitable(worker: Worker, number: signal.Signals) -> signal.Signals:
    """Return SIGTERM while Python still loads: SIGINT would end it with a traceback."""
    return signal.SIGTERM if worker.phase is WorkerPhase.STARTING else number
