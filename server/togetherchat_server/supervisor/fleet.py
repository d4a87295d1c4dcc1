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

# As many failures of one place before anything ever served, and the start is given up.
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

    silence_s: float
    propagation_s: float
    drain_s: float


@final
class Fleet:
    """The workers, and the sandbox they ask if there is one."""

    def __init__(self, *, workers: int, sandbox: bool, limits: FleetLimits, now: float) -> None:
        self._limits = limits
        self._workers = [Slot(number=number, role=Role.WORKER) for number in range(1, workers + 1)]
        self._sandbox = Slot(number=0, role=Role.SANDBOX) if sandbox else None
        self._members: dict[int, Worker] = {}
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

    def heard(self, member_id: int, report: Report, now: float) -> None:
        """A report came."""
        member = self._members.get(member_id)
        if member is None:
            return
        member.heard_at = now
        member.phase, member.in_flight = report.phase, report.in_flight
        member.address, member.failure = report.address, report.failure
        if report.phase is WorkerPhase.SERVING and member.served_at is None:
            member.served_at = now
            if member.role is Role.SANDBOX:
                self._simulator = report.address

    def gone(self, member_id: int, code: int, now: float) -> None:
        """A process ended, or (with a status above 0) could not be started."""
        member = self._members.pop(member_id, None)
        if member is None:
            return
        self._stale.discard(member_id)
        how = member.failure or ending(code)
        place = self._place(member)
        if self._stopping or member.leaving:
            self._left(member, code, how)
        elif place.replacement is member:
            place.replacement = None
            self._stale.clear()
            self._note(f"rolling restart given up: the new {member.name()} {how}", grave=True)
        elif place.replacement is not None:
            place.current, place.replacement = place.replacement, None
            place.restarts += 1
            self._note(f"{member.name()} {how}; its replacement takes over", grave=True)
        else:
            self._replace_later(place, member, how, now)

    def stop(self, number: signal.Signals) -> None:
        """A signal to stop came: the first drains, the second hurries."""
        self._signals.append(number)

    def roll(self) -> None:
        """Replace every worker of now, one after the other."""
        if not self._stopping:
            present = [(place.current, place.replacement) for place in self._workers]
            self._stale = {member.id for pair in present for member in pair if member is not None}
            self._note("rolling restart: the workers are replaced one after the other")

    def decide(self, now: float) -> list[Action]:
        """What is to be done now, in this order."""
        return list(self._decide(now))

    @property
    def ready(self) -> bool:
        """Whether calls are wanted: somebody serves, and nobody said stop."""
        return not self._stopping and any(
            member.serves for member in self._members.values() if member.role is Role.WORKER
        )

    def alive(self, now: float) -> bool:
        """Whether the fleet does its work or may yet: false when nothing helped for a minute."""
        return self._stopping or self.ready or now - self._served_at < RESTORE_S

    @property
    def restarts(self) -> int:
        """Workers that were lost and replaced."""
        return sum(place.restarts for place in self._workers)

    def roster(self, now: float) -> list[RosterRow]:
        """Every place, and every process that still leaves."""
        places = [*([] if self._sandbox is None else [self._sandbox]), *self._workers]
        filling = {place.current.id for place in places if place.current is not None}
        others = [member for member in self._members.values() if member.id not in filling]
        return [row(place, place.current, now) for place in places] + [
            row(self._place(member), member, now) for member in others
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

    def _place(self, member: Worker) -> Slot:
        if member.role is Role.SANDBOX:
            assert self._sandbox is not None  # noqa: S101  only its place starts one
            return self._sandbox
        return self._workers[member.place - 1]

    def _note(self, text: str, *, grave: bool = False) -> None:
        self._notes.append(LogMessage(text=text, grave=grave))

    def _left(self, member: Worker, code: int, how: str) -> None:
        """Told to go, and gone."""
        place = self._place(member)
        place.current = None if place.current is member else place.current
        place.replacement = None if place.replacement is member else place.replacement
        # A process that had not begun to serve knows no better than to die of the signal.
        if code != 0 and member.served_at is not None:
            self._clean = self._clean and not self._stopping
            self._note(f"{member.name()} {how}", grave=True)

    def _replace_later(self, place: Slot, member: Worker, how: str, now: float) -> None:
        """After its back-off, unless nothing ever served and it failed too often."""
        delay_s = place.lost(member, now)
        if self._announced or place.failures < START_FAILURES_MAX:
            self._note(f"{member.name()} {how}; a new one in {delay_s:g} s", grave=True)
            return
        self._note(f"{member.name()} {how}; given up", grave=True)
        self._problem = f"the workers cannot start: {how}"
        self._signals = [signal.SIGTERM, signal.SIGTERM]

    def _announce(self) -> Iterator[Action]:
        if not self._announced and self.ready:
            self._announced = True
            yield Announce(simulator=self._simulator)

    def _start_missing(self, now: float) -> Iterator[Action]:
        if self._sandbox is not None and self._sandbox.current is None and now >= self._sandbox.start_at:
            self._sandbox.current = self._new_member(self._sandbox, now)
            yield Start(member=self._sandbox.current, simulator=self._simulator)
        if self._sandbox is not None and not self._simulator:
            return
        for place in self._workers:
            if place.current is None and now >= place.start_at:
                place.current = self._new_member(place, now)
                yield Start(member=place.current, simulator=self._simulator)

    def _new_member(self, place: Slot, now: float) -> Worker:
        self._ids += 1
        member = Worker(id=self._ids, place=place.number, role=place.role, started_at=now)
        self._members[member.id] = member
        return member

    def _roll_on(self, now: float) -> Iterator[Action]:
        """One place at a time: a new process, then the old one's drain, then the next place."""
        for place in self._workers:
            if place.replacement is not None and place.replacement.serves:
                yield from self._swap(place, now)
        busy = any(place.replacement for place in self._workers)
        if not self._stale or busy or any(member.leaving for member in self._members.values()):
            return
        place = next(
            place for place in self._workers if place.current is not None and place.current.id in self._stale
        )
        if place.current is not None and place.current.serves:
            place.replacement = self._new_member(place, now)
            yield Start(member=place.replacement, simulator=self._simulator)

    def _swap(self, place: Slot, now: float) -> Iterator[Action]:
        old, place.current, place.replacement = place.current, place.replacement, None
        place.failures = 0
        if old is not None:
            self._stale.discard(old.id)
            old.leave_by = now + self._limits.drain_s + STOP_MARGIN_S
            yield Send(member=old, number=REPLACED)
            if not self._stale:
                self._note("rolling restart: every worker is new")

    def _forward(self, now: float) -> Iterator[Action]:
        """Pass each signal on once, to every worker whom it concerns."""
        limits, other = self._limits, _unlike(self._signals[0])
        while self._forwarded < len(self._signals):
            first, number = self._forwarded == 0, self._signals[self._forwarded]
            self._forwarded += 1
            left_s = limits.propagation_s + limits.drain_s + STOP_MARGIN_S if first else HURRY_S
            for member in self._members.values():
                # One that a rolling restart told to leave would take the first for its second.
                if member.role is Role.WORKER and not (first and member.leaving):
                    member.leave_by = min(member.leave_by or now + left_s, now + left_s)
                    yield Send(member=member, number=_fit(member, number if first else other))

    def _kill_overdue(self, now: float) -> Iterator[Action]:
        for member in self._members.values():
            reason = None if member.killed else overdue(member, now, self._limits.silence_s)
            if reason is not None:
                member.killed = True
                self._note(f"{member.name()} {reason}: killed", grave=True)
                yield Send(member=member, number=signal.SIGKILL)

    def _end(self, now: float) -> Iterator[Action]:
        """The sandbox goes last: the workers' calls need it to their end."""
        if any(member.role is Role.WORKER for member in self._members.values()):
            return
        for member in self._members.values():
            if not member.leaving:
                member.leave_by = now + HURRY_S
                yield Send(member=member, number=signal.SIGTERM)
        if not self._members:
            yield Exit(clean=self._clean and not self._problem, problem=self._problem)


def _unlike(first: signal.Signals) -> signal.Signals:
    """A second signal that is not the first: of two that are alike a busy process sees one."""
    return signal.SIGINT if first is signal.SIGTERM else signal.SIGTERM


def _fit(member: Worker, number: signal.Signals) -> signal.Signals:
    """Python that is still loading dies of SIGTERM in silence, of SIGINT with a traceback."""
    return signal.SIGTERM if member.phase is WorkerPhase.STARTING else number
