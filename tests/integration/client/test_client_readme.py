"""Tests that the programs of clients/python/README.md run against the real service."""

import asyncio
import re
import sys
import time
from pathlib import Path

import pytest

from support.app import running_app
from support.memory_usage import MemoryLedger, install, ledger_row

README = Path(__file__).parents[3] / "clients" / "python" / "README.md"
PROGRAMS = dict(
    re.findall(
        r"^## ([^\n]+)\n.*?^```python\n(.*?)^```",
        README.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
)


async def output_of(program, *, usage=None):
    async with running_app(sandbox_tokens_per_second=0, max_retries=2) as app:
        install(app, usage=usage)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program.replace("localhost:50051", app.addresses.grpc),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
    assert (0, b"") == (process.returncode, err)
    return out.decode()


@pytest.mark.parametrize("name", ["A stream", "A call"])
async def test_the_completion_is_printed(name):
    """The program prints text of the sandbox."""
    assert "sandbox" in (await output_of(PROGRAMS[name])).lower()


async def test_the_first_lines_install_connect_and_call():
    """A newcomer needs the first lines only, and their program prints text of the sandbox."""
    first = README.read_text(encoding="utf-8").splitlines()[:13]
    program = "\n".join(first).partition("```python\n")[2].partition("```")[0]

    assert any(line.startswith("pip install") for line in first)
    assert "sandbox" in (await output_of(program)).lower()


async def test_the_tool_loop_prints_a_completion():
    """The completion has the result of the tool call."""
    assert "clear" in await output_of(PROGRAMS["A tool loop"])


async def test_the_error_is_printed_and_then_the_completion():
    """The program retries after the delay and succeeds."""
    *failures, text = (await output_of(PROGRAMS["An error, and when to retry"])).splitlines()

    assert failures
    assert {("RESOURCE_EXHAUSTED", "RATE_LIMITED_REQUESTS")} == {tuple(line.split()[:2]) for line in failures}
    assert text


async def test_the_usage_of_each_model_is_printed():
    """And the sum of all calls of the last week."""
    row = ledger_row(time_us=time.time_ns() // 1000)
    written = await output_of(PROGRAMS["Usage and cost"], usage=MemoryLedger([row]))

    assert ["some/model 1 0.001 USD", "usage of 1 calls"] == written.splitlines()
