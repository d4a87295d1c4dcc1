"""A signal to stop that arrives before the service serves ends the process cleanly."""

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from support.command import ROOTS, running_command
from support.waiting import eventually

ARGUMENTS = ("--sandbox", "--grpc-listen", "127.0.0.1:0", "--admin-listen", "off")
# Which step of the start a moment hits depends on the machine; the result must not.
LATEST_S = 1.0


def handles_sigterm(pid):
    """Return whether the process has a handler for SIGTERM, which it installs last."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(status["SigCgt"], 16) >> (signal.SIGTERM - 1) & 1)


async def test_the_signal_handlers_are_installed_before_slow_imports():
    """The kernel ignores a signal to the first process of a container that has no handler for it."""
    unwanted = "{'asyncio', 'pydantic', 'grpc', 'starlette', 'togetherchat_server.cli.main'}"
    script = f"import sys, togetherchat_server.__main__; print(sorted({unwanted} & set(sys.modules)))"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script,
        env={"PYTHONPATH": os.pathsep.join(ROOTS)}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()

    assert b"[]\n" == out


@pytest.mark.skipif(sys.platform != "linux", reason="reads signal handlers from /proc")
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_at_any_moment_of_the_start_exits_cleanly(number, workers):
    """Once the handler is installed: exit status 0, and no traceback."""
    generator = random.Random(number * 100 + int(workers))
    results = []
    for moment_s in (0.0, *(generator.uniform(0, LATEST_S) for _ in range(2))):
        async with running_command(*ARGUMENTS, "--workers", workers) as command:
            await eventually(lambda: handles_sigterm(command.process.pid), within_s=20)
            await asyncio.sleep(moment_s)
            command.signal(number)
            results.append((await command.wait_for_exit(), "Traceback" in command.error_text))

    assert [(0, False)] * 3 == results
