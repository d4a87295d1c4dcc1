"""One started process: a command, an environment, a socket, signals. Decides nothing."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, final

from togetherchat_server.observe.metrics.packets import Figures, from_packet, is_figures
from togetherchat_server.supervisor.control import PACKET_BYTES_MAX, VARIABLE, Assignment, Report

PROGRAM: Final = "togetherchat_server"


@final
class Child:
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

    def reports(self) -> Iterator[Report | Figures]:
        """What it has said since it was last asked; raises EOFError when it will say no more."""
        with contextlib.suppress(BlockingIOError):
            while packet := self.control.recv(PACKET_BYTES_MAX):
                yield from_packet(packet) if is_figures(packet) else Report.from_packet(packet)
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
