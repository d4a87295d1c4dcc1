"""A signal to stop that comes before anything is served: it is heard, and the end is an orderly one."""

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from support.command import ROOTS, running_command
from support.waiting import eventually

WORDS = ("--sandbox", "--grpc-listen", "127.0.0.1:0", "--admin-listen", "off")
# A process of its own per moment. Where a moment falls depends on the machine, what is promised does not.
LATEST_S = 1.0


def listens(pid):
    """Whether a process has a handler for SIGTERM, the last that it sets, by what the kernel says."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(status["SigCgt"], 16) >> (signal.SIGTERM - 1) & 1)


async def test_what_hears_signals_loads_nothing_that_takes_long():
    """The first process of a container ignores a signal that it has no handler for: that comes first."""
    unwanted = "{'asyncio', 'pydantic', 'grpc', 'starlette', 'togetherchat_server.cli.main'}"
    script = f"import sys, togetherchat_server.__main__; print(sorted({unwanted} & set(sys.modules)))"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script,
        env={"PYTHONPATH": os.pathsep.join(ROOTS)}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()

    assert b"[]\n" == out


@pytest.mark.skipif(sys.platform != "linux", reason="whether a process has a handler yet is asked of /proc")
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_at_any_moment_of_the_start_ends_it_in_order(number, workers):
    """From the moment that there is a handler: exit status 0, and no traceback."""
    dice = random.Random(number * 100 + int(workers))
    ends = []
    for moment_s in (0.0, *(dice.uniform(0, LATEST_S) for _ in range(2))):
        async with running_command(*WORDS, "--workers", workers) as command:
            await eventually(lambda: listens(command.process.pid), within_s=20)
            await asyncio.sleep(moment_s)
            command.signal(number)
            ends.append((await command.ended(), "Traceback" in command.error_text))

    assert [(0, False)] * 3 == ends
