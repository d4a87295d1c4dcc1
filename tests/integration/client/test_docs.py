"""Tests that docs/python.md and docs/cli.md match the client and the command."""

import asyncio
import re
from pathlib import Path

import pytest

import togetherchat_client
from support.scripted_service import ScriptedService, response_of, serving, stream_of
from togetherchat_client import errors
from togetherchat_client.cli.arguments import parse
from togetherchat_client.cli.chat import SLASH_COMMANDS
from togetherchat_client.cli.exit_codes import ExitCode

DOCS = Path(__file__).parents[3] / "docs"
PYTHON = (DOCS / "python.md").read_text(encoding="utf-8")
COMMAND = (DOCS / "cli.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PYTHON, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
async def test_an_example_runs(example):
    """The example runs with another address."""
    scripted = ScriptedService(Complete=[[response_of("Hello.")]], StreamComplete=[stream_of("Hel", "lo.")])
    async with serving(scripted) as target:
        code = compile(example.replace("localhost:50051", target), "python.md", "exec")
        await asyncio.to_thread(exec, code, {"__name__": "example"})
    assert scripted.seen


def test_every_exception_is_on_the_page():
    """docs/python.md names every public exception."""
    names = {name for name in togetherchat_client.__all__ if name.endswith("Error")} - {"TogetherChatError"}
    assert set() == {name for name in names if f"`{name}`" not in PYTHON}


def test_every_status_is_beside_its_class():
    """The table of the page equals CLASS_BY_CODE."""
    beside = {
        code.strip(): row[0]
        for row in re.findall(r"^\| `(\w+)` \| ([A-Z_, ]+) \|", PYTHON, re.MULTILINE)
        for code in row[1].split(",")
    }
    expected = {code.name: each.__name__ for code, each in errors.CLASS_BY_CODE.items() if code.name != "OK"}
    assert expected == beside


def test_the_exit_codes_are_those_of_the_command():
    """The table of the page has exactly the exit codes of ExitCode."""
    assert [code.value for code in ExitCode] == [
        int(code) for code in re.findall(r"^\| (\d+) \|", COMMAND, re.MULTILINE)
    ]


def test_every_slash_command_is_on_the_page():
    """docs/cli.md names every command of a chat."""
    assert set() == {name for name in SLASH_COMMANDS if f"`{name}" not in COMMAND}


@pytest.mark.parametrize("subcommand", ["chat", "complete", "models", "model", "health"])
def test_every_option_is_on_the_page(subcommand, capsys):
    """docs/cli.md names every option that `--help` lists."""
    with pytest.raises(SystemExit):
        parse([subcommand, "--help"], {})
    options = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert set() == {option for option in options if option not in COMMAND}
