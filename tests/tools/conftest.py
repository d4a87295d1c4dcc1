"""A server process for the tests of third-party tools."""

import re
import subprocess
import sys

import pytest

FLAGS = (
    "--sandbox", "--sandbox-tokens-per-second", "0", "--upstream-credentials", "caller-then-server",
    "--grpc-listen", "127.0.0.1:0", "--admin-listen", "off",
)  # fmt: skip


@pytest.fixture(scope="session")
def address():
    """The address of a server like that of `make run`, on a free port."""
    with started() as server:
        yield address_of(server)
        stop(server)


@pytest.fixture(scope="session")
def address_without_reflection():
    """The address of a server without reflection."""
    with started("--no-reflection") as server:
        yield address_of(server)
        stop(server)


def started(*more):
    return subprocess.Popen(
        [sys.executable, "-m", "togetherchat_server", *FLAGS, *more], stderr=subprocess.PIPE, text=True
    )


def address_of(server):
    found = None
    while not found:
        line = server.stderr.readline()
        assert line, "the server exited before it was ready"
        found = re.search(r"SERVING: gRPC on ([^,\s]+)", line)
    return found[1]


def stop(server):
    server.terminate()
    server.communicate()
    assert 0 == server.returncode
