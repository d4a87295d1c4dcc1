"""Tests of what gRPC's core reads from the environment."""

import os
import subprocess
import sys

import pytest

from togetherchat_server.frontends.grpc import environment as grpc_environment

SERVING = """
import asyncio, os
from pathlib import Path
from grpc import aio

async def main():
    server = aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    rows = [line.split() for name in ("tcp", "tcp6") for line in open(f"/proc/self/net/{name}")]
    (inode,) = {row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"}
    files = {path: os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}
    (listener,) = (path.name for path, target in files.items() if target == f"socket:[{inode}]")
    polls = sorted(int(path.name) for path, target in files.items() if "eventpoll" in target)
    infos = [Path(f"/proc/self/fdinfo/{poll}").read_text() for poll in polls]
    watched = [[line.split()[1] for line in info.splitlines() if line.startswith("tfd")] for info in infos]
    print([listener in fds for fds in watched].index(True))
    await server.stop(0)

asyncio.run(main())
"""
"""Prints which of the process's epoll instances watches the listening socket."""
SERVE = "import grpc; from grpc import aio; grpc.insecure_channel('127.0.0.1:1').close()"


def test_what_the_operator_set_stays():
    """Both variables have defaults, which the operator's values override."""
    ours, theirs = {}, {"GRPC_VERBOSITY": "DEBUG", "GRPC_EXPERIMENTS": ""}
    grpc_environment.set_defaults(ours)
    grpc_environment.set_defaults(theirs)
    assert {"GRPC_VERBOSITY": "NONE", "GRPC_EXPERIMENTS": "-event_engine_listener"} == ours
    assert {"GRPC_VERBOSITY": "DEBUG", "GRPC_EXPERIMENTS": ""} == theirs


@pytest.mark.parametrize(
    ("version", "known"), [("1.72.2", True), ("1.85.3", True), ("1.86.0", False), ("2.0.0rc1", False)]
)
def test_no_experiment_is_set_for_an_unknown_release(monkeypatch, version, known):
    """The core would print its name to standard error."""
    monkeypatch.setattr(grpc_environment.importlib.metadata, "version", lambda _: version)
    variables = {}
    grpc_environment.set_defaults(variables)
    assert known == ("GRPC_EXPERIMENTS" in variables)


def test_the_installed_grpc_knows_the_experiment():
    """A core that does not know a name says so on standard error."""
    variables = {}
    grpc_environment.set_defaults(variables)
    assert "" == loaded(variables)
    assert "nonsense" in loaded({**variables, "GRPC_EXPERIMENTS": "-nonsense"})


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_default_changes_who_polls_the_listener():
    """With the threads of gRPC's core another epoll instance watches the socket."""
    variables = {}
    grpc_environment.set_defaults(variables)
    watching = [
        subprocess.run(
            [sys.executable, "-c", SERVING],
            env={**os.environ, "GRPC_EXPERIMENTS": value},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for value in ("", variables["GRPC_EXPERIMENTS"])
    ]
    assert ["2\n", "1\n"] == watching


def test_the_module_loads_no_grpc():
    """gRPC's core reads the environment while it is loaded."""
    program = "import sys, togetherchat_server.frontends.grpc.environment; sys.exit('grpc' in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", program], check=False).returncode


def loaded(variables):
    """Load gRPC in a new process; return what it prints to standard error."""
    environment = {**os.environ, **variables}
    return subprocess.run(
        [sys.executable, "-c", SERVE], env=environment, capture_output=True, text=True, check=True
    ).stderr
