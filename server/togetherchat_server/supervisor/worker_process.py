"""One started process: a command, an environment, a socket, signals. Decides nothing.

MERGED: One process of the fleet, the slot that it fills, and what is thought of both.

Places stay (worker 1, worker 2), processes come and go. All judgements are functions of what
was heard and of the time.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

from togetherchat_server.supervisor.control import (
    PACKET_BYTES_MAX,
    VARIABLE,
    Assignment,
    Report,
    Role,
    WorkerPhase,
)
from togetherchat_server.telemetry.metrics.wire import Snapshot, from_packet, is_snapshot

BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MAX_S: Final = 5.0
# What served so long was no failure to start: the next back-off begins anew.
HEALTHY_S: Final = 10.0
# Loading gRPC and everything else takes half a second, several with little CPU.
START_S: Final = 30.0


@dataclass(slots=True, kw_only=True)
class Worker:
    """A process, as far as it is known."""

    id: int
    slot: int
    role: Role
    started_at: float
    pid: int = 0
    phase: WorkerPhase = WorkerPhase.STARTING
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
        return self.phase is WorkerPhase.SERVING and not self.leaving and not self.killed

    def name(self) -> str:
        who = "sandbox" if self.role is Role.SANDBOX else f"worker {self.slot}"
        return f"{who} (pid {self.pid})"


@dataclass(slots=True, kw_only=True)
class Slot:
    """A position that is to be filled, with one process or, while it is replaced, with two."""

    number: int
    role: Role
    current: Worker | None = None
    replacement: Worker | None = None
    failures: int = 0
    """Processes in a row that did not last."""
    restarts: int = 0
    start_at: float = field(default=float("-inf"))

    def lost(self, worker: Worker, now: float) -> float:
        """The process is gone unasked; seconds until the next may start."""
        lasted = worker.served_at is not None and now - worker.served_at >= HEALTHY_S
        self.failures = 1 if lasted else self.failures + 1
        self.restarts += 1
        self.current = None
        delay_s = backoff_s(self.failures)
        self.start_at = now + delay_s
        return delay_s


def backoff_s(failures: int) -> float:
    """Seconds to wait after so many failures in a row: 0.1, 0.2, 0.4, at most 5."""
    return min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 16))


def overdue(worker: Worker, now: float, heartbeat_timeout_s: float) -> str | None:
    """Why the process must be killed, if it must."""
    if worker.leave_by is not None and now >= worker.leave_by:
        return "did not end in time"
    if worker.phase is WorkerPhase.STARTING and now - worker.started_at >= START_S:
        return f"did not serve within {START_S:g} s"
    if worker.heard_at is not None and now - worker.heard_at >= heartbeat_timeout_s:
        return f"gave no sign of life for {heartbeat_timeout_s:g} s"
    return None


def ending(code: int) -> str:
    """How a process ended, by its return code as Python gives it: negative is a signal."""
    if code >= 0:
        return f"exited with status {code}"
    try:
        return f"died of {signal.Signals(-code).name}"
    except ValueError:
        return f"died of signal {-code}"


PROGRAM: Final = "togetherchat_server"


@final
class WorkerProcess:
    """A process that was given an assignment.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        assign: Callable[[int], Assignment],
        *,
        handed: Sequence[int] = (),
    ) -> None:
        """`handed` are descriptors that it gets under the same numbers."""
        # Packets: a report arrives whole or not at all, and the end is an empty one.
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                # A session of its own: Ctrl-C reaches the supervisor alone, which passes it on once.
                self._process = subprocess.Popen(  # noqa: S603  this program again, by its own words
                    [sys.executable, *import_flags(sys.path, Path.cwd()), "-m", PROGRAM, *words],
                    env={**environment, VARIABLE: assign(theirs.fileno()).to_text()},
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), *handed),
                    start_new_session=True,
                )
        except BaseException:
            self.control.close()
            raise
        self.control.setblocking(False)
        self.pid: Final = self._process.pid

    def reports(self) -> Iterator[Report | Snapshot]:
        """What it has message since it was last asked; raises EOFError when it will say no more."""
        with contextlib.suppress(BlockingIOError):
            while packet := self.control.recv(PACKET_BYTES_MAX):
                yield from_packet(packet) if is_snapshot(packet) else Report.from_packet(packet)
            raise EOFError

    def exit_code(self) -> int | None:
        """How it ended, None while it runs."""
        return self._process.poll()

    def send(self, number: int) -> None:
        """Send a signal; none to a process that has ended."""
        self._process.send_signal(number)

    def close(self) -> None:
        """Forget a process that has ended."""
        asyncio.get_running_loop().remove_reader(self.control)
        self.control.close()


def import_flags(path: Sequence[str], here: Path) -> tuple[str, ...]:
    """`-m` imports from the working directory, which is only right where this process does so too."""
    return () if {"", str(here)} & set(path) else ("-P",)


def cannot_start(exc: OSError) -> str:
    return f"cannot be started: {os.strerror(exc.errno) if exc.errno else exc}"
