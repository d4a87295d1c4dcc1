"""The `togetherchat` command on a pseudo-terminal."""

import asyncio
import contextlib
import os
import pty
import re
import sys
import termios
from contextlib import asynccontextmanager

# Ctrl-C needs a session whose controlling terminal this is. (Not set in preexec_fn, because gRPC
# does not support Python code between fork and exec.)
COMMAND = """\
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from togetherchat_client.cli import main
sys.exit(main())
"""
CONTROL_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\[\?2004[hl]|\r")


class Screen:
    """The output of a terminal, and its keyboard."""

    def __init__(self, keyboard: int, process: asyncio.subprocess.Process) -> None:
        self.raw = ""
        self.process = process
        self._keyboard = keyboard
        self._read_to = 0
        self._grew = asyncio.Event()
        self._closed = False
        asyncio.get_running_loop().add_reader(keyboard, self._receive)

    def _receive(self) -> None:
        try:
            data = os.read(self._keyboard, 65536)
        except OSError:  # the other end is closed
            data = b""
        if not data:
            self._closed = True
            asyncio.get_running_loop().remove_reader(self._keyboard)
        self.raw += data.decode(errors="replace")
        self._grew.set()

    @property
    def text(self) -> str:
        """The output without control sequences."""
        return CONTROL_SEQUENCE.sub("", self.raw)

    def type(self, text: str) -> None:
        os.write(self._keyboard, text.encode())

    async def until(self, expected: str) -> None:
        """Wait for `expected` in the output after the previous match."""
        async with asyncio.timeout(60):
            await self._seen(expected)
        self._read_to = self.text.index(expected, self._read_to) + len(expected)

    async def _seen(self, expected: str) -> None:
        while expected not in self.text[self._read_to :]:
            assert not self._closed, f"the terminal was closed before {expected!r}: {self.text!r}"
            self._grew.clear()
            await self._grew.wait()

    async def press_until(self, key: str, expected: str) -> None:
        """Press `key` until `expected` appears, as a person would.

        A signal between the echo of a letter and Python's next wait for input is handled with the
        next key only, because Python checks for signals before it waits, not atomically.
        """
        async with asyncio.timeout(60):
            while expected not in self.text[self._read_to :]:
                self.type(key)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await self._seen(expected)
        await self.until(expected)

    async def ended(self) -> int:
        """Wait for the end of the command and return its exit code."""
        async with asyncio.timeout(60):
            return await self.process.wait()


@asynccontextmanager
async def terminal(target: str, *arguments: str, **more: str):
    """Run the command on a pseudo-terminal."""
    keyboard, screen_side = pty.openpty()
    termios.tcsetwinsize(screen_side, (24, 80))
    inherited = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        COMMAND,
        *arguments,
        stdin=screen_side,
        stdout=screen_side,
        stderr=screen_side,
        env={**inherited, "TERM": "xterm", "PYTHONUTF8": "1", "TOGETHERCHAT_TARGET": target, **more},
        start_new_session=True,
    )
    os.close(screen_side)
    screen = Screen(keyboard, process)
    try:
        yield screen
    finally:
        asyncio.get_running_loop().remove_reader(keyboard)
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(keyboard)
