"""The actions that a fleet decides on. The supervisor performs them."""

import signal
from dataclasses import dataclass
from typing import TypeAlias

from togetherchat_server.supervisor.worker_state import Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class StartProcess:
    """Start a process. `sandbox_url` is the sandbox's base URL, empty if there is none yet."""

    worker: Worker
    sandbox_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SendSignal:
    """Send a signal to a process."""

    worker: Worker
    number: signal.Signals


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMessage:
    """Write a log line."""

    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnounceServing:
    """Print the banner: the first worker serves."""

    sandbox_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """Exit, because no process is left. `clean` decides the exit status."""

    clean: bool
    problem: str


Action: TypeAlias = StartProcess | SendSignal | LogMessage | AnnounceServing | Exit
