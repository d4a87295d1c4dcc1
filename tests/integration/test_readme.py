"""The README tells the truth: its tables are the code's, its snippets run as printed."""

import asyncio
import re
import sys

import pytest

from support.app import running_app
from support.readme import ADDRESS, README, WRITTEN, languages
from togetherchat_server.config import Settings
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.frontends.grpc.status import CODES, Pushback, pushback_of

LANGUAGES = languages()
LINES_MAX = 15
WORDS = {Pushback.NONE: "", Pushback.DELAY: "later", Pushback.NEVER: "never"}


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


def test_the_error_table_is_the_codes():
    """Every reason of failure has its line, with its reason, code and word on retries."""
    said = [tuple(row[:3]) for row in rows("| reason | code | retry | when |")]
    meant = [
        (reason.value, CODES[reason].name, WORDS[pushback_of(ServiceError(reason, ""))]) for reason in Reason
    ]

    assert sorted(meant) == sorted(said)


def test_the_settings_table_is_the_codes():
    """Every setting has its line, with its default and what it is."""
    said = [tuple(row) for row in rows("| flag | default | what it is |")]

    assert [setting_row(name) for name in Settings.model_fields] == said


def setting_row(name):
    field = Settings.model_fields[name]
    default = "off" if field.default in (None, ()) else field.default
    default = str(default).lower() if isinstance(default, bool) else f"{default}"
    return f"`--{name.replace('_', '-')}`", f"`{default}`", field.description


@pytest.mark.parametrize("name", ["python", "go", "typescript", "java"])
def test_a_language_has_its_four_programs(name):
    """A stream, a call, a tool loop, an error with back-off: in some ten lines each, for the service of `make run`."""
    shown = LANGUAGES[name]

    assert list(WRITTEN) == list(shown.snippets)
    assert [] == [title for title, whole in shown.programs.items() if 1 != whole.count(ADDRESS)]
    assert [] == [
        title
        for title, snippet in shown.snippets.items()
        if len([line for line in snippet.splitlines() if line.strip()]) > LINES_MAX
    ]


@pytest.mark.parametrize("title", WRITTEN)
async def test_a_python_program_runs_as_printed(title):
    """What the README shows in Python works against a running service, and writes what it is there for."""
    program = LANGUAGES["python"].programs[title]
    async with running_app(sandbox_tokens_per_second=0, max_retries=2) as app:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program.replace(ADDRESS, app.addresses.grpc),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()

    assert (0, b"") == (process.returncode, err)
    assert re.search(WRITTEN[title], out.decode(), re.MULTILINE), out
