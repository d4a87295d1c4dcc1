"""What a supervisor decides: pure, the time is an argument, nothing is touched.

`heard`, `gone`, `stop` and `roll` write down what happened. `decide` looks at all of it and
gives out what is to be done now: it can be asked at any time and as often as one likes, so
nothing is lost when two things happen at once.
"""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, final

from togetherchat_server.supervisor.actions import Action, Announce, Exit, LogMessage, Send, Start
from togetherchat_server.supervisor.control import REPLACED, Report, Role, WorkerPhase
from togetherchat_server.supervisor.roster import RosterRow, row
from togetherchat_server.supervisor.worker_process import Slot, Worker, ending, overdue

# As many failures of one slot before anything ever served, and the start is given up.
START_FAILURES_MAX: Final = 3
# Beyond the time for the drain: what a worker may take to close up.
STOP_MARGIN_S: Final = 5.0
# After a second signal.
HURRY_S: Final = 5.0
# So long without any worker that serves, and the supervisor calls itself dead.
RESTORE_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetLimits:
    """The settings that matter here."""

    heartbeat_timeout_s: float
    drain_delay_s: float
    drain_timeout_s: float


@final
class Fleet:
    """The workers, and the sandbox they ask if there is one."""

    def __init__(self, *, workers: int, sandbox: bool, limits: FleetLimits, now: float) -> None:
        self._limits = limits
        self._slots = [Slot(number=number, role=Role.WORKER) for number in range(1, workers + 1)]
        self._sandbox = Slot(number=0, role=Role.SANDBOX) if sandbox else None
        self._workers: dict[int, Worker] = {}
        self._ids = 0
        self._notes: list[LogMessage] = []
        self._stale: set[int] = set()
        self._signals: list[signal.Signals] = []
        self._forwarded = 0
        self._clean = True
        self._problem = ""
        self._simulator = ""
        self._announced = False
        self._served_at = now

    def heard(self, worker_id: int, report: Report, now: float) -> None:
        """A report came."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return
        worker.heard_at = now
        worker.phase, worker.in_flight = report.phase, report.in_flight
        worker.address, worker.failure = report.address, report.failure
        if report.phase is WorkerPhase.SERVING and worker.served_at is None:
            worker.served_at = now
            if worker.role is Role.SANDBOX:
                self._simulator = report.address

    def gone(self, worker_id: int, code: int, now: float) -> None:
        """A process ended, or (with a status above 0) could not be started."""
        worker = self._workers.pop(worker_id, None)
        if worker is None:
            return
        self._stale.discard(worker_id)
        how = worker.failure or ending(code)
        slot = self._slot(worker)
        if self._stopping or worker.leaving:
            self._left(worker, code, how)
        elif slot.replacement is worker:
            slot.replacement = None
            self._stale.clear()
            self._note(f"rolling restart given up: the new {worker.name()} {how}", grave=True)
        elif slot.replacement is not None:
            slot.current, slot.replacement = slot.replacement, None
            slot.restarts += 1
            self._note(f"{worker.name()} {how}; its replacement takes over", grave=True)
        else:
            self._replace_later(slot, worker, how, now)

    def stop(self, number: signal.Signals) -> None:
        """A signal to stop came: the first drains, the second hurries."""
        self._signals.append(number)

    def roll(self) -> None:
        """Replace every worker of now, one after the other."""
        if not self._stopping:
            present = [(slot.current, slot.replacement) for slot in self._slots]
            self._stale = {worker.id for pair in present for worker in pair if worker is not None}
            self._note("rolling restart: the workers are replaced one after the other")

    def decide(self, now: float) -> list[Action]:
        """What is to be done now, in this order."""
        return list(self._decide(now))

    @property
    def ready(self) -> bool:
        """Whether calls are wanted: somebody serves, and nobody message stop."""
        return not self._stopping and any(
            worker.serves for worker in self._workers.values() if worker.role is Role.WORKER
        )

    def alive(self, now: float) -> bool:
        """Whether the fleet does its work or may yet: false when nothing helped for a minute."""
        return self._stopping or self.ready or now - self._served_at < RESTORE_S

    @property
    def restarts(self) -> int:
        """Workers that were lost and replaced."""
        return sum(slot.restarts for slot in self._slots)

    def roster(self, now: float) -> list[RosterRow]:
        """Every slot, and every process that still leaves."""
        places = [*([] if self._sandbox is None else [self._sandbox]), *self._slots]
        filling = {slot.current.id for slot in places if slot.current is not None}
        others = [worker for worker in self._workers.values() if worker.id not in filling]
        return [row(slot, slot.current, now) for slot in places] + [
            row(self._slot(worker), worker, now) for worker in others
        ]

    @property
    def _stopping(self) -> bool:
        return bool(self._signals)

    def _decide(self, now: float) -> Iterator[Action]:
        if self.ready:
            self._served_at = now
        if self._stopping:
            yield from self._forward(now)
        else:
            yield from self._announce()
            yield from self._roll_on(now)
            yield from self._start_missing(now)
        yield from self._kill_overdue(now)
        notes, self._notes = self._notes, []
        yield from notes
        if self._stopping:
            yield from self._end(now)

    def _slot(self, worker: Worker) -> Slot:
        if worker.role is Role.SANDBOX:
            assert self._sandbox is not None  # noqa: S101  only its slot starts one
            return self._sandbox
        return self._slots[worker.slot - 1]

    def _note(self, text: str, *, grave: bool = False) -> None:
        self._notes.append(LogMessage(text=text, grave=grave))

    def _left(self, worker: Worker, code: int, how: str) -> None:
        """Told to go, and gone."""
        slot = self._slot(worker)
        slot.current = None if slot.current is worker else slot.current
        slot.replacement = None if slot.replacement is worker else slot.replacement
        # A process that had not begun to serve knows no better than to die of the signal.
        if code != 0 and worker.served_at is not None:
            self._clean = self._clean and not self._stopping
            self._note(f"{worker.name()} {how}", grave=True)

    def _replace_later(self, slot: Slot, worker: Worker, how: str, now: float) -> None:
        """After its back-off, unless nothing ever served and it failed too often."""
        delay_s = slot.lost(worker, now)
        if self._announced or slot.failures < START_FAILURES_MAX:
            self._note(f"{worker.name()} {how}; a new one in {delay_s:g} s", grave=True)
            return
        self._note(f"{worker.name()} {how}; given up", grave=True)
        self._problem = f"the workers cannot start: {how}"
        self._signals = [signal.SIGTERM, signal.SIGTERM]

    def _announce(self) -> Iterator[Action]:
        if not self._announced and self.ready:
            self._announced = True
            yield Announce(simulator=self._simulator)

    def _start_missing(self, now: float) -> Iterator[Action]:
        if self._sandbox is not None and self._sandbox.current is None and now >= self._sandbox.start_at:
            self._sandbox.current = self._new_member(self._sandbox, now)
            yield Start(worker=self._sandbox.current, simulator=self._simulator)
        if self._sandbox is not None and not self._simulator:
            return
        for slot in self._slots:
            if slot.current is None and now >= slot.start_at:
                slot.current = self._new_member(slot, now)
                yield Start(worker=slot.current, simulator=self._simulator)

    def _new_member(self, slot: Slot, now: float) -> Worker:
        self._ids += 1
        worker = Worker(id=self._ids, slot=slot.number, role=slot.role, started_at=now)
        self._workers[worker.id] = worker
        return worker

    def _roll_on(self, now: float) -> Iterator[Action]:
        """One slot at a time: a new process, then the old one's drain, then the next slot."""
        for slot in self._slots:
            if slot.replacement is not None and slot.replacement.serves:
                yield from self._swap(slot, now)
        busy = any(slot.replacement for slot in self._slots)
        if not self._stale or busy or any(worker.leaving for worker in self._workers.values()):
            return
        slot = next(
            slot for slot in self._slots if slot.current is not None and slot.current.id in self._stale
        )
        if slot.current is not None and slot.current.serves:
            slot.replacement = self._new_member(slot, now)
            yield Start(worker=slot.replacement, simulator=self._simulator)

    def _swap(self, slot: Slot, now: float) -> Iterator[Action]:
        old, slot.current, slot.replacement = slot.current, slot.replacement, None
        slot.failures = 0
        if old is not None:
            self._stale.discard(old.id)
            old.leave_by = now + self._limits.drain_timeout_s + STOP_MARGIN_S
            yield Send(worker=old, number=REPLACED)
            if not self._stale:
                self._note("rolling restart: every worker is new")

    def _forward(self, now: float) -> Iterator[Action]:
        """Pass each signal on once, to every worker whom it concerns."""
        limits, other = self._limits, _unlike(self._signals[0])
        while self._forwarded < len(self._signals):
            first, number = self._forwarded == 0, self._signals[self._forwarded]
            self._forwarded += 1
            left_s = limits.drain_delay_s + limits.drain_timeout_s + STOP_MARGIN_S if first else HURRY_S
            for worker in self._workers.values():
                # One that a rolling restart told to leave would take the first for its second.
                if worker.role is Role.WORKER and not (first and worker.leaving):
                    worker.leave_by = min(worker.leave_by or now + left_s, now + left_s)
                    yield Send(worker=worker, number=_fit(worker, number if first else other))

    def _kill_overdue(self, now: float) -> Iterator[Action]:
        for worker in self._workers.values():
            reason = None if worker.killed else overdue(worker, now, self._limits.heartbeat_timeout_s)
            if reason is not None:
                worker.killed = True
                self._note(f"{worker.name()} {reason}: killed", grave=True)
                yield Send(worker=worker, number=signal.SIGKILL)

    def _end(self, now: float) -> Iterator[Action]:
        """The sandbox goes last: the workers' calls need it to their end."""
        if any(worker.role is Role.WORKER for worker in self._workers.values()):
            return
        for worker in self._workers.values():
            if not worker.leaving:
                worker.leave_by = now + HURRY_S
                yield Send(worker=worker, number=signal.SIGTERM)
        if not self._workers:
            yield Exit(clean=self._clean and not self._problem, problem=self._problem)


def _unlike(first: signal.Signals) -> signal.Signals:
    """A second signal that is not the first: of two that are alike a busy process sees one."""
    return signal.SIGINT if first is signal.SIGTERM else signal.SIGTERM


def _fit(worker: Worker, number: signal.Signals) -> signal.Signals:
    """Python that is still loading dies of SIGTERM in silence, of SIGINT with a traceback."""
    return signal.SIGTERM if worker.phase is WorkerPhase.STARTING else number
