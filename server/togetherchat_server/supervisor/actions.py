"""What a supervisor can be told to do."""

import signal
from dataclasses import dataclass
from typing import TypeAlias

from togetherchat_server.supervisor.worker_process import Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Start a process; `simulator` is the address of the API that it asks, or empty."""

    worker: Worker
    simulator: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Send a signal."""

    worker: Worker
    number: signal.Signals


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMessage:
    """Say to whoever reads the log."""

    text: str
    grave: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Announce:
    """The first worker serves: say so."""

    simulator: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """Nothing is left: end with this status."""

    clean: bool
    problem: str


Action: TypeAlias = Start | Send | LogMessage | Announce | Exit
