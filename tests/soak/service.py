"""Runs the server and the sandbox as separate processes, so that only the server is measured."""

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

READY_TIMEOUT_S: Final = 20.0
STOP_TIMEOUT_S: Final = 40.0
FETCH_TIMEOUT_S: Final = 30.0
REQUEST_LOG_SIZE: Final = 5000
SERVER_FLAGS: Final[Mapping[str, str]] = {
    "--log-format": "json",
    "--write-timeout-s": "1",
    "--first-token-timeout-s": "5",
    "--stream-idle-timeout-s": "5",
    "--request-read-timeout-s": "10",
    "--model-list-ttl-s": "5",
}
"""Short timeouts, so that calls reach each of them often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The process id of the server, and the addresses of both processes."""

    pid: int
    grpc: str
    admin: str
    sandbox: str

    def collect_garbage(self) -> None:
        """Make the server collect garbage; it does so before it handles the next request."""
        os.kill(self.pid, signal.SIGUSR1)

    def metrics(self) -> str:
        """Return the server's page of metrics."""
        return _fetch(f"http://{self.admin}/metrics").decode("utf-8")

    def running_requests(self) -> list[dict[str, object]]:
        """Return the requests that the sandbox still works on, among the latest ones."""
        log = json.loads(_fetch(f"http://{self.sandbox}/sandbox/request-log"))
        return [entry for entry in log["requests"] if entry["ended"] == "running"]


@contextmanager
def running_service(flags: Sequence[str] = ()) -> Iterator[Service]:
    """Run both processes; `flags` are further flags of the server.

    The server's log goes to /dev/null. Writing it is part of what is measured.
    """
    grpc, admin, sandbox = (f"127.0.0.1:{port}" for port in _free_ports(3))
    sandbox_flags = [
        "--listen",
        sandbox,
        "--unary-wait-max-ms",
        "50",
        "--request-log-size",
        str(REQUEST_LOG_SIZE),
    ]
    server_flags = [
        "--grpc-listen",
        grpc,
        "--admin-listen",
        admin,
        *(part for flag in SERVER_FLAGS.items() for part in flag),
    ]
    upstream = {"TOGETHER_BASE_URL": f"http://{sandbox}/v1", "TOGETHER_API_KEY": "soak"}
    with (
        _process("togetherchat_sandbox", sandbox_flags),
        _process("soak.collecting_server", [*server_flags, *flags], upstream) as pid,
    ):
        service = Service(pid=pid, grpc=grpc, admin=admin, sandbox=sandbox)
        _await_ready(f"http://{sandbox}/sandbox")
        _await_ready(f"http://{admin}/readyz")
        yield service


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
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


def _fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=FETCH_TIMEOUT_S) as response:
        return response.read()


def _await_ready(url: str) -> None:
    until_s = time.monotonic() + READY_TIMEOUT_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > until_s:
                raise
            time.sleep(0.05)
        else:
            return
