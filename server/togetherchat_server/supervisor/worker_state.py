"""The state of the fleet's processes and of the slots that they fill.

A slot (worker 1, worker 2) stays; its processes change. Every decision here is a function of the
reports received and of the time.
"""

import signal
from dataclasses import dataclass, field
from typing import Final

from togetherchat_server.supervisor.control import Role, WorkerPhase

BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MAX_S: Final = 5.0
# A process that served this long did not fail to start: the back-off begins again at the first step.
HEALTHY_S: Final = 10.0
# Loading gRPC and everything else takes half a second; with little CPU, several seconds.
START_TIMEOUT_S: Final = 30.0


@dataclass(slots=True, kw_only=True)
class Worker:
    """One process, as its last report describes it. The sandbox is one too."""

    id: int
    slot: int
    role: Role
    started_at: float
    pid: int = 0
    phase: WorkerPhase = WorkerPhase.STARTING
    in_flight: int = 0
    address: str = ""
    failure: str = ""
    last_report_at: float | None = None
    serving_since: float | None = None
    stop_deadline: float | None = None
    """When a process that was asked to stop is killed."""
    killed: bool = False

    @property
    def stopping(self) -> bool:
        """Whether the process was asked to stop."""
        return self.stop_deadline is not None

    @property
    def serving(self) -> bool:
        """Whether the process serves and continues to."""
        return self.phase is WorkerPhase.SERVING and not self.stopping and not self.killed

    def name(self) -> str:
        """Return the name of the process in log lines."""
        slot = "sandbox" if self.role is Role.SANDBOX else f"worker {self.slot}"
        return f"{slot} (pid {self.pid})"


@dataclass(slots=True, kw_only=True)
class Slot:
    """A position in the fleet: holds one process or, during its replacement, two."""

    number: int
    role: Role
    current: Worker | None = None
    replacement: Worker | None = None
    failures: int = 0
    """Consecutive processes that exited soon after their start."""
    restarts: int = 0
    start_at: float = field(default=float("-inf"))

    def process_lost(self, worker: Worker, now: float) -> float:
        """Record an unexpected exit. Return the back-off in seconds until the next start."""
        healthy = worker.serving_since is not None and now - worker.serving_since >= HEALTHY_S
        self.failures = 1 if healthy else self.failures + 1
        self.restarts += 1
        self.current = None
        delay_s = backoff_s(self.failures)
        self.start_at = now + delay_s
        return delay_s


def backoff_s(failures: int) -> float:
    """Return the back-off after that many consecutive failures: 0.1, 0.2, 0.4, at most 5 s."""
    return min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 16))


def kill_reason(worker: Worker, now: float, heartbeat_timeout_s: float) -> str | None:
    """Return why the process must be killed; None if it need not be."""
    if worker.stop_deadline is not None and now >= worker.stop_deadline:
        return "did not exit in time"
    if worker.phase is WorkerPhase.STARTING and now - worker.started_at >= START_TIMEOUT_S:
        return f"did not serve within {START_TIMEOUT_S:g} s"
    if worker.last_report_at is not None and now - worker.last_report_at >= heartbeat_timeout_s:
        return f"sent no heartbeat for {heartbeat_timeout_s:g} s"
    return None


def describe_exit(code: int) -> str:
    """Describe a return code as Python reports it: a negative one is a signal."""
    if code >= 0:
        return f"exited with status {code}"
    try:
        return f"was terminated by {signal.Signals(-code).name}"
    except ValueError:
        return f"was terminated by signal {-code}"
