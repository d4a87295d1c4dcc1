"""Starts one process of the fleet: a command, an environment, a socket pair, signals.

Makes no decisions.
"""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, final

from togetherchat_server.supervisor.control import ASSIGNMENT_VARIABLE, PACKET_BYTES_MAX, Assignment, Report
from togetherchat_server.telemetry.metrics.wire import Snapshot, from_packet, is_snapshot

PROGRAM: Final = "togetherchat_server"


@final
class WorkerProcess:
    """A process that was started with an assignment.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        assign: Callable[[int], Assignment],
        *,
        inherited_fds: Sequence[int] = (),
    ) -> None:
        """Start the process. `assign` receives the process's end of the socket pair.

        `inherited_fds` are descriptors that the process gets under the same numbers.
        """
        # A packet arrives complete or not at all. An empty one is the end of file.
        self.control, child_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with child_end:
                # A session of its own: Ctrl-C reaches the supervisor only, which forwards it once.
                self._process = subprocess.Popen(  # noqa: S603  this program, with its own arguments
                    [sys.executable, *import_flags(sys.path, Path.cwd()), "-m", PROGRAM, *arguments],
                    env={**environment, ASSIGNMENT_VARIABLE: assign(child_end.fileno()).to_text()},
                    stdin=subprocess.DEVNULL,
                    pass_fds=(child_end.fileno(), *inherited_fds),
                    start_new_session=True,
                )
        except BaseException:
            self.control.close()
            raise
        self.control.setblocking(False)
        self.pid: Final = self._process.pid

    def messages(self) -> Iterator[Report | Snapshot]:
        """Yield the messages received since the last call.

        Raises:
            EOFError: the process has closed its end.
        """
        with contextlib.suppress(BlockingIOError):
            while packet := self.control.recv(PACKET_BYTES_MAX):
                yield from_packet(packet) if is_snapshot(packet) else Report.from_packet(packet)
            raise EOFError

    def exit_code(self) -> int | None:
        """Return the exit code; None while the process runs."""
        return self._process.poll()

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has exited."""
        self._process.send_signal(number)

    def close(self) -> None:
        """Close the socket of a process that has exited."""
        asyncio.get_running_loop().remove_reader(self.control)
        self.control.close()


def import_flags(path: Sequence[str], folder: Path) -> tuple[str, ...]:
    """Return the flags that make the process import from the same folders as this one.

    `-m` adds the working directory, which is right only if this process imports from there too.
    """
    return () if {"", str(folder)} & set(path) else ("-P",)


def describe_start_error(exc: OSError) -> str:
    """Describe why a process could not be started."""
    return f"cannot be started: {os.strerror(exc.errno) if exc.errno else exc}"
