"""One process of the fleet, the place that it fills, and what is thought of both.

Places stay (worker 1, worker 2), processes come and go. All judgements are functions of what
was heard and of the time.
"""

import signal
from dataclasses import dataclass, field
from typing import Final

from togetherchat_server.supervisor.control import Phase, Role

BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MAX_S: Final = 5.0
# What served so long was no failure to start: the next back-off begins anew.
HEALTHY_S: Final = 10.0
# Loading gRPC and everything else takes half a second, several with little CPU.
START_S: Final = 30.0


@dataclass(slots=True, kw_only=True)
class Member:
    """A process, as far as it is known."""

    id: int
    place: int
    role: Role
    started_at: float
    pid: int = 0
    phase: Phase = Phase.STARTING
    in_flight: int = 0
    address: str = ""
    failure: str = ""
    heard_at: float | None = None
    served_at: float | None = None
    leave_by: float | None = None
    """When a process that was told to leave is killed."""
    killed: bool = False

    @property
    def leaving(self) -> bool:
        return self.leave_by is not None

    @property
    def serves(self) -> bool:
        return self.phase is Phase.SERVING and not self.leaving and not self.killed

    def name(self) -> str:
        who = "sandbox" if self.role is Role.SANDBOX else f"worker {self.place}"
        return f"{who} (pid {self.pid})"


@dataclass(slots=True, kw_only=True)
class Place:
    """A position that is to be filled, with one process or, while it is replaced, with two."""

    number: int
    role: Role
    current: Member | None = None
    replacement: Member | None = None
    failures: int = 0
    """Processes in a row that did not last."""
    restarts: int = 0
    start_at: float = field(default=float("-inf"))

    def lost(self, member: Member, now: float) -> float:
        """The process is gone unasked; seconds until the next may start."""
        lasted = member.served_at is not None and now - member.served_at >= HEALTHY_S
        self.failures = 1 if lasted else self.failures + 1
        self.restarts += 1
        self.current = None
        delay_s = backoff_s(self.failures)
        self.start_at = now + delay_s
        return delay_s


def backoff_s(failures: int) -> float:
    """Seconds to wait after so many failures in a row: 0.1, 0.2, 0.4, at most 5."""
    return min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 16))


def overdue(member: Member, now: float, silence_s: float) -> str | None:
    """Why the process must be killed, if it must."""
    if member.leave_by is not None and now >= member.leave_by:
        return "did not end in time"
    if member.phase is Phase.STARTING and now - member.started_at >= START_S:
        return f"did not serve within {START_S:g} s"
    if member.heard_at is not None and now - member.heard_at >= silence_s:
        return f"gave no sign of life for {silence_s:g} s"
    return None


def ending(code: int) -> str:
    """How a process ended, by its return code as Python gives it: negative is a signal."""
    if code >= 0:
        return f"exited with status {code}"
    try:
        return f"died of {signal.Signals(-code).name}"
    except ValueError:
        return f"died of signal {-code}"
