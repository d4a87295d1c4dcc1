"""The server and the sandbox, each a process of its own, so that what is measured is the server's."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

READY_S: Final = 20.0
STOP_S: Final = 40.0
PAGE_S: Final = 30.0
LEDGER_REQUESTS: Final = 5000
SERVER_FLAGS: Final[Mapping[str, str]] = {
    "--log-format": "json",
    "--write-timeout-s": "1",
    "--first-token-timeout-s": "5",
    "--stream-idle-timeout-s": "5",
    "--request-read-timeout-s": "10",
    "--model-list-ttl-s": "5",
}
"""Short limits, so that every one of them is met often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What runs where."""

    pid: int
    rpc: str
    admin: str
    sandbox: str

    def collect_garbage(self) -> None:
        """Ask the server to; it is done before the server answers anything else."""
        os.kill(self.pid, signal.SIGUSR1)

    def vars(self) -> dict[str, int]:
        """What the server holds, by its own account."""
        return _json(f"http://{self.admin}/vars")

    def requests_left_running(self) -> list[dict[str, object]]:
        """Of the last requests that the sandbox has seen."""
        ledger = _json(f"http://{self.sandbox}/sandbox/request-log")
        return [entry for entry in ledger["requests"] if entry["ended"] == "running"]


@contextmanager
def running(flags: Sequence[str] = ()) -> Iterator[Place]:
    """Both, from start to end; `flags` are more of the server's own.

    The server's lines go nowhere: that they are written is a part of what is measured.
    """
    rpc, admin, sandbox = (f"127.0.0.1:{port}" for port in _free_ports(3))
    listens = ["--listen", sandbox, "--unary-wait-max-ms", "50", "--request-log-size", str(LEDGER_REQUESTS)]
    serves = ["--grpc-listen", rpc, "--admin-listen", admin, *(word for flag in SERVER_FLAGS.items() for word in flag)]
    upstream = {"TOGETHER_BASE_URL": f"http://{sandbox}/v1", "TOGETHER_API_KEY": "soak"}
    with (
        _process("togetherchat_sandbox", listens),
        _process("soak.collecting_server", [*serves, *flags], upstream) as pid,
    ):
        place = Place(pid=pid, rpc=rpc, admin=admin, sandbox=sandbox)
        _await_ready(f"http://{sandbox}/sandbox")
        _await_ready(f"http://{admin}/readyz")
        yield place


@contextmanager
def _process(
    module: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [open_socket.getsockname()[1] for open_socket in sockets]
    for open_socket in sockets:
        open_socket.close()
    return ports


def _json(url: str) -> dict:
    with urllib.request.urlopen(url, timeout=PAGE_S) as page:
        return json.loads(page.read())


def _await_ready(url: str) -> None:
    until_s = time.monotonic() + READY_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > until_s:
                raise
            time.sleep(0.05)
        else:
            return
