"""Starts programs of other people, and ends them. Their output is shown if they do not start."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager, suppress
from pathlib import Path

REASONABLE_S = 20.0


def program(name):
    """Return the path of a program, which the environment names in upper case."""
    path = os.environ.get(name.upper())
    assert path, f"{name.upper()} is not set: run `make test-proxies`"
    assert Path(path).is_absolute(), f"{name.upper()} is not an absolute path: {path}"
    return path


class Program:
    """A program that listens at an address."""

    def __init__(self, arguments, address, log):
        self.address = address
        self._arguments = arguments
        self._log = log
        self._process = None

    async def start(self):
        """Start the program, and wait until it accepts connections."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Nothing else: nginx takes a variable NGINX for sockets that it inherits.
                env={"PATH": os.environ["PATH"]},
                start_new_session=True,
            )
        async with asyncio.timeout(REASONABLE_S):
            while not await self._accepts():
                assert None is self._process.returncode, self._log.read_text(errors="replace")
                await asyncio.sleep(0.02)

    async def kill(self):
        """Kill the program with its children. Its connections are closed."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
            self._process = None

    async def _accepts(self):
        host, _, port = self.address.rpartition(":")
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except ConnectionRefusedError:
            return False
        writer.transport.abort()
        return True


@asynccontextmanager
async def running(arguments, *, address, log):
    """Run a program while the context is open."""
    started = Program(arguments, address, log)
    try:
        await started.start()
        yield started
    finally:
        await started.kill()
