"""The ledger's packages are optional, and loaded only when it is on."""

import importlib.util
import subprocess
import sys

import pytest

from support.command import ROOTS
from togetherchat_server.cli.main import main
from togetherchat_server.cli.usage import run_usage

LOADED = """
import sys
from togetherchat_server.cli import main
from togetherchat_server.runtime import process
print(sorted({"sqlalchemy", "alembic", "psycopg"} & set(sys.modules)))
"""


def test_a_service_without_a_ledger_loads_none_of_its_packages():
    """They take 0.3 s."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        env={"PYTHONPATH": ":".join(ROOTS)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "[]\n" == done.stdout


@pytest.mark.parametrize(
    ("missing", "database", "extra"),
    [
        ("sqlalchemy", "sqlite:///x", "togetherchat[server,usage]"),
        ("alembic", "sqlite:///x", "togetherchat[server,usage]"),
        ("psycopg", "postgresql://u@h/d", "togetherchat[usage,postgres]"),
    ],
)
def test_a_missing_package_names_the_line_that_installs_it(missing, database, extra, monkeypatch, capfd):
    """Before anything is served."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else found(name))
    monkeypatch.setattr(sys, "argv", ["togetherchat-server", "--sandbox", "--usage-database", database])

    assert 2 == main()
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("togetherchat-server: --usage-database")
    assert line.endswith(f"needs the package {missing}; install it with: pip install '{extra}'")


@pytest.mark.parametrize(
    ("arguments", "status", "problem"),
    [
        (["migrate"], 2, "--usage-database (TOGETHERCHAT_USAGE_DATABASE) is not set"),
        ([], 2, "the following arguments are required: COMMAND"),
        (
            ["migrate", "--usage-database", "nonsense"],
            1,
            "--usage-database: must be sqlite:///PATH or postgresql://",
        ),
    ],
)
def test_the_command_explains_what_it_needs(arguments, status, problem, capsys):
    """In one line."""
    assert status == run_usage(arguments, {}, out=sys.stdout, error=sys.stderr)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"togetherchat-server: {problem}")


def test_the_command_migrates_sqlite_too(tmp_path, capsys):
    """Although the service does it at the start."""
    environment = {"TOGETHERCHAT_USAGE_DATABASE": f"sqlite:///{tmp_path}/usage.sqlite"}

    assert 0 == run_usage(["migrate"], environment, out=sys.stdout, error=sys.stderr)
    assert "The tables of the usage ledger are those of this version.\n" == capsys.readouterr().out
