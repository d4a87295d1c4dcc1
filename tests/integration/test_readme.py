"""The README tells the truth: its tables are the code's, its snippets run as printed."""

import asyncio
import re
import sys
from pathlib import Path

import pytest

from support.app import running_app
from togetherchat_server.config import Settings
from togetherchat_server.errors import Kind
from togetherchat_server.fronts.rpc.status import ROWS, Retry

README = Path(__file__).parents[2] / "README.md"
ADDRESS = "localhost:50051"
WORDS = {Retry.SILENT: "", Retry.LATER: "later", Retry.NEVER: "never"}


def text():
    return README.read_text(encoding="utf-8")


def rows(header):
    """The cells of the table under a header row."""
    lines = text().split(header)[1].splitlines()[2:]
    table = []
    for line in lines:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


def snippets(language):
    return re.findall(rf"^```{language}\n(.*?)^```", text(), re.MULTILINE | re.DOTALL)


def test_the_error_table_is_the_codes():
    """Every kind of failure has its line, with its reason, code and word on retries."""
    said = [tuple(row[:3]) for row in rows("| reason | code | retry | when |")]
    meant = [
        (ROWS[kind].reason or kind.value, ROWS[kind].code.name, WORDS[ROWS[kind].retry]) for kind in Kind
    ]

    assert sorted(meant) == sorted(said)


def test_the_settings_table_is_the_codes():
    """Every setting has its line, with its default and what it is."""
    said = [tuple(row) for row in rows("| flag | default | what it is |")]

    assert [setting_row(name) for name in Settings.model_fields] == said


def setting_row(name):
    field = Settings.model_fields[name]
    default = str(field.default).lower() if isinstance(field.default, bool) else f"{field.default}"
    return f"`--{name.replace('_', '-')}`", f"`{default}`", field.description


@pytest.mark.parametrize("snippet", snippets("python"))
async def test_a_python_snippet_runs_as_printed(snippet):
    """What the README shows in Python works against a running service."""
    async with running_app(sandbox_tokens_per_second=0) as app:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", snippet.replace(ADDRESS, app.addresses.rpc),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()

    assert (0, b"") == (process.returncode, err)
    assert b"RATE_LIMITED" in out
