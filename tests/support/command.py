"""Runs a command of this project as a process, and kills it by its pid after the test."""

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import togetherchat
import togetherchat_server

ROOTS = {str(Path(package.__file__).parents[1]) for package in (togetherchat, togetherchat_server)}
REASONABLE_S = 60.0
"""The longest wait for an event that must happen, on a busy machine."""


class Command:
    """A running process. `lines` holds its standard error so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._changed = asyncio.Event()
        self._reading = process.stderr and asyncio.create_task(self._read())
        if self._reading:
            self._reading.add_done_callback(lambda _: self._changed.set())

    @property
    def error_text(self) -> str:
        return "\n".join(self.lines)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def wait_for_line(self, text: str) -> str:
        """Wait for a line that contains `text` and return it. Raises TimeoutError."""
        async with asyncio.timeout(REASONABLE_S):
            while not (found := [line for line in self.lines if text in line]):
                if self._reading and self._reading.done():
                    status = await self.process.wait()
                    raise AssertionError(f"exited with {status}:\n{self.error_text}")
                self._changed.clear()
                await self._changed.wait()
        return found[0]

    async def wait_for_exit(self) -> int:
        """Wait until the process exits and its last line is read. Return the exit status."""
        async with asyncio.timeout(REASONABLE_S):
            status = await self.process.wait()
            if self._reading:
                await self._reading
        return status

    async def _read(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.lines.append(line.decode().rstrip("\n"))
            self._changed.set()


@asynccontextmanager
async def running_command(*arguments, environment=None, stderr=asyncio.subprocess.PIPE):
    """Run `togetherchat-server` with these arguments and only this environment."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "togetherchat_server",
        *arguments,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(ROOTS), **(environment or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        limit=2**20,
    )
    command = Command(process)
    try:
        yield command
    finally:
        if process.returncode is None:
            process.kill()
        await command.wait_for_exit()
