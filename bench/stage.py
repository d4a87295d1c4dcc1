"""Starts the upstream and the contestants on their cores, checks that each responds, and stops them.

Owns processes and ports. Other modules own the loads.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health_pb2

from bench import payloads, procfs, production
from bench.contestants import Contestant
from bench.cores import Cores, pinned
from togetherchat.v1 import chat_service_pb2_grpc

READY_S: Final = 90.0
STOP_S: Final = 5.0
SETTLE_S: Final = 30.0
SETTLE_CHECK_S: Final = 0.1
RESPONSE_S: Final = 30.0
POLL_S: Final = 0.01


class StageError(RuntimeError):
    """A contestant did not start, or its responses are not valid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """The scripted upstream, with its own count of the calls that reached it."""

    pid: int
    address: str

    def counts(self) -> Mapping[str, int]:
        with urllib.request.urlopen(f"http://{self.address}/counts", timeout=RESPONSE_S) as page:
            return json.loads(page.read())

    def cpu_s(self) -> float:
        return procfs.cpu_s(self.pid)

    def settle(self) -> None:
        """Wait until the streams of a contestant that has ended are closed, each at its next token.

        Ten thousand held streams that stay open, and those of the next contestant, exceed the file limit.
        """
        ends_s = time.monotonic() + SETTLE_S
        while self.counts()["open"] and time.monotonic() < ends_s:
            time.sleep(SETTLE_CHECK_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningContestant:
    """A contestant that is serving. `pid` is the root of its processes."""

    contestant: Contestant
    pid: int
    address: str
    headers: Mapping[str, str]
    start_s: float

    @property
    def url(self) -> str:
        return f"http://{self.address}{self.contestant.path}"

    @property
    def health_url(self) -> str:
        return f"http://{self.address}{self.contestant.health}"

    def cpu_s(self) -> float:
        return procfs.cpu_s(self.pid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The installed programs, the cores and the upstream of a run."""

    installed: Path
    cores: Cores
    upstream: Upstream

    def load(self, command: Sequence[str]) -> list[str]:
        """Return the command, pinned to the cores that load and upstream share."""
        return pinned(self.cores.load, command)

    def built(self, name: str) -> str:
        """Return the path of a program of bench/go."""
        return str(self.installed / "bin" / name)

    @contextmanager
    def running(
        self, contestant: Contestant, *, flags: Sequence[str] = (), cores: Sequence[int] | None = None
    ) -> Generator[RunningContestant, None, None]:
        """Run a contestant, and yield once it is ready; `flags` are added to its command."""
        if not contestant.command:
            yield RunningContestant(
                contestant=contestant,
                pid=self.upstream.pid,
                address=self.upstream.address,
                headers={},
                start_s=0.0,
            )
            return
        with ExitStack() as stack:
            placeholders = self._placeholders()
            if contestant.in_production:
                placeholders |= stack.enter_context(production.profile())
            began = time.perf_counter()
            server, started = self._started(stack, contestant, placeholders, flags, cores)
            _await_ready(started, server)
            start_s = time.perf_counter() - began
            if contestant.scraped:
                stack.enter_context(production.scraping(contestant.scraped.format_map(placeholders)))
            yield replace(server, start_s=start_s)
        self.upstream.settle()

    def _placeholders(self) -> dict[str, str]:
        port, spare = free_ports(2)
        return {
            "port": str(port),
            "spare": str(spare),
            "upstream": self.upstream.address,
            "installed": str(self.installed),
        }

    def _started(
        self,
        stack: ExitStack,
        contestant: Contestant,
        placeholders: Mapping[str, str],
        flags: Sequence[str],
        cores: Sequence[int] | None,
    ) -> tuple[RunningContestant, subprocess.Popen[bytes]]:
        command = [word.format_map(placeholders) for word in contestant.command] + list(flags)
        environment = {name: text.format_map(placeholders) for name, text in contestant.environment.items()}
        started = stack.enter_context(process(pinned(cores or self.cores.gateway, command), environment))
        server = RunningContestant(
            contestant=contestant,
            pid=started.pid,
            address=f"127.0.0.1:{placeholders['port']}",
            headers={name: text.format_map(placeholders) for name, text in contestant.headers.items()},
            start_s=0.0,
        )
        return server, started


@contextmanager
def upstream(installed: Path, cores: Cores) -> Generator[Upstream, None, None]:
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    command = [str(installed / "bin" / "upstream"), "--listen", address]
    with process(pinned(cores.load, command), {}) as started:
        _await_page(started, f"http://{address}/counts")
        yield Upstream(pid=started.pid, address=address)


@contextmanager
def process(
    command: Sequence[str], environment: Mapping[str, str]
) -> Generator[subprocess.Popen[bytes], None, None]:
    """Run a process and discard its output. The cost of writing the output is part of the measurement."""
    inherited = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = subprocess.Popen(
        command,
        env=inherited | dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield started
    finally:
        _end(started)


def _end(started: subprocess.Popen[bytes]) -> None:
    """Stop the process and its children, by their ids: some servers leave children running."""
    pids = procfs.tree(started.pid)
    started.terminate()
    try:
        started.wait(STOP_S)
    except subprocess.TimeoutExpired:
        started.kill()
        started.wait()
    for pid in set(pids[1:]) & set(procfs.tree(os.getpid())):
        os.kill(pid, 9)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [open_socket.getsockname()[1] for open_socket in sockets]


def missing(contestant: Contestant, installed: Path, flags_of_ours: str) -> str | None:
    """Return why the contestant cannot be measured, or None."""
    if contestant.needs and not (installed / contestant.needs).exists():
        return f"{contestant.label}: not installed"
    if contestant.needs_flag and contestant.needs_flag not in flags_of_ours:
        return f"{contestant.label}: the server does not have {contestant.needs_flag}"
    if contestant.command and not shutil.which(contestant.command[0].format(installed=installed)):
        return f"{contestant.label}: {contestant.command[0]} is not on the PATH"
    return None


# Readiness and validation ---------------------------------------------------------------


def _await_ready(started: subprocess.Popen[bytes], server: RunningContestant) -> None:
    if server.contestant.protocol == "grpc":
        _await_serving(started, server.address)
    else:
        _await_page(started, server.health_url)


def _await_page(started: subprocess.Popen[bytes], url: str) -> None:
    def responds() -> bool:
        try:
            urllib.request.urlopen(url, timeout=RESPONSE_S).close()
        except (urllib.error.URLError, ConnectionError):
            return False
        return True

    _await(started, responds)


def _await_serving(started: subprocess.Popen[bytes], address: str) -> None:
    """Wait for the port first: after a refused connection a channel waits a second before it retries."""
    host, _, port = address.partition(":")

    def listens() -> bool:
        try:
            socket.create_connection((host, int(port)), timeout=RESPONSE_S).close()
        except ConnectionError:
            return False
        return True

    _await(started, listens)
    with grpc.insecure_channel(address) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        request, serving = health_pb2.HealthCheckRequest(), health_pb2.HealthCheckResponse.SERVING
        _await(started, lambda: check(request, timeout=READY_S).status == serving)


def _await(started: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
    until_s = time.monotonic() + READY_S
    while not ready():
        if started.poll() is not None:
            raise StageError(f"the process exited with status {started.returncode} before it was ready")
        if time.monotonic() > until_s:
            raise StageError(f"the process was not ready within {READY_S:.0f} s")
        time.sleep(POLL_S)


def validate(server: RunningContestant) -> None:
    """Send one call, and check that the response holds the upstream's text."""
    text = _complete_grpc(server) if server.contestant.protocol == "grpc" else _complete_http(server)
    if text != payloads.TEXT:
        raise StageError(f"{server.contestant.label}: the response does not hold the text of the upstream")


def _complete_grpc(server: RunningContestant) -> str:
    with grpc.insecure_channel(server.address) as channel:
        stub = chat_service_pb2_grpc.ChatServiceStub(channel)
        metadata = tuple(server.headers.items())
        response = stub.Complete(payloads.message(payloads.UNARY), timeout=RESPONSE_S, metadata=metadata)
    return response.choices[0].message.content[0].text


def _complete_http(server: RunningContestant) -> str:
    headers = {**server.headers, "Content-Type": "application/json"}
    request = urllib.request.Request(
        server.url, data=payloads.body(payloads.UNARY, stream=False), headers=headers
    )
    with urllib.request.urlopen(request, timeout=RESPONSE_S) as response:
        return json.loads(response.read())["choices"][0]["message"]["content"]
