"""Starts the upstream and the contestants on their cores, proves that each of them answers, ends them.

It owns processes and ports; what is put on them is others' business.
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

from bench import payloads, procfs
from bench.contestants import Contestant
from bench.cores import Cores, pinned
from togetherchat.v1 import chat_service_pb2_grpc

READY_S: Final = 90.0
STOP_S: Final = 5.0
ANSWER_S: Final = 30.0
POLL_S: Final = 0.01


class StageError(RuntimeError):
    """A contestant did not start, or does not answer what it was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """The scripted upstream, and its own count of what reached it."""

    pid: int
    address: str

    def counts(self) -> Mapping[str, int]:
        with urllib.request.urlopen(f"http://{self.address}/counts", timeout=ANSWER_S) as page:
            return json.loads(page.read())


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A contestant that serves. `pid` is the root of its processes."""

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
    """Where things run."""

    installed: Path
    cores: Cores
    upstream: Upstream

    def load(self, command: Sequence[str]) -> list[str]:
        """The command, on the cores that load and upstream share."""
        return pinned(self.cores.load, command)

    def built(self, name: str) -> str:
        """Returns the path of a program of bench/go."""
        return str(self.installed / "bin" / name)

    @contextmanager
    def running(
        self, contestant: Contestant, *, flags: Sequence[str] = (), cores: Sequence[int] | None = None
    ) -> Generator[Running, None, None]:
        """From its first answer on; `flags` are more of its own."""
        if not contestant.command:
            yield Running(
                contestant=contestant,
                pid=self.upstream.pid,
                address=self.upstream.address,
                headers={},
                start_s=0.0,
            )
            return
        port, spare = free_ports(2)
        words = {
            "port": str(port),
            "spare": str(spare),
            "upstream": self.upstream.address,
            "installed": str(self.installed),
        }
        command = [word.format_map(words) for word in contestant.command] + list(flags)
        environment = {name: text.format_map(words) for name, text in contestant.environment.items()}
        began = time.perf_counter()
        with process(pinned(cores or self.cores.gateway, command), environment) as started:
            place = Running(
                contestant=contestant,
                pid=started.pid,
                address=f"127.0.0.1:{port}",
                headers={name: text.format_map(words) for name, text in contestant.headers.items()},
                start_s=0.0,
            )
            _await_ready(started, place)
            yield replace(place, start_s=time.perf_counter() - began)


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
    """Its lines go nowhere: that they are written is a part of what is measured."""
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
    """It and its children, by their ids: some servers leave theirs behind."""
    family = procfs.tree(started.pid)
    started.terminate()
    try:
        started.wait(STOP_S)
    except subprocess.TimeoutExpired:
        started.kill()
        started.wait()
    for pid in set(family[1:]) & set(procfs.tree(os.getpid())):
        os.kill(pid, 9)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [open_socket.getsockname()[1] for open_socket in sockets]


def missing(contestant: Contestant, installed: Path, flags_of_ours: str) -> str | None:
    """What it would need, if it is not there."""
    if contestant.needs and not (installed / contestant.needs).exists():
        return f"{contestant.label}: not installed"
    if contestant.needs_flag and contestant.needs_flag not in flags_of_ours:
        return f"{contestant.label}: the server has no {contestant.needs_flag}"
    if contestant.command and not shutil.which(contestant.command[0].format(installed=installed)):
        return f"{contestant.label}: no {contestant.command[0]}"
    return None


# Ready, and right -----------------------------------------------------------------------


def _await_ready(started: subprocess.Popen[bytes], place: Running) -> None:
    if place.contestant.protocol == "grpc":
        _await_serving(started, place.address)
    else:
        _await_page(started, place.health_url)


def _await_page(started: subprocess.Popen[bytes], url: str) -> None:
    def asked() -> bool:
        try:
            urllib.request.urlopen(url, timeout=ANSWER_S).close()
        except (urllib.error.URLError, ConnectionError):
            return False
        return True

    _await(started, asked)


def _await_serving(started: subprocess.Popen[bytes], address: str) -> None:
    """Look for the port first: a channel that was refused waits a second before it tries again."""
    host, _, port = address.partition(":")

    def listens() -> bool:
        try:
            socket.create_connection((host, int(port)), timeout=ANSWER_S).close()
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
        asked, serving = health_pb2.HealthCheckRequest(), health_pb2.HealthCheckResponse.SERVING
        _await(started, lambda: check(asked, timeout=READY_S).status == serving)


def _await(started: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
    until_s = time.monotonic() + READY_S
    while not ready():
        if started.poll() is not None:
            raise StageError(f"it ended with {started.returncode} instead of getting ready")
        if time.monotonic() > until_s:
            raise StageError(f"it did not get ready within {READY_S:.0f} s")
        time.sleep(POLL_S)


def prove(place: Running) -> None:
    """Ask once, read what is answered, and be sure that it is the upstream's text."""
    text = _ask_rpc(place) if place.contestant.protocol == "grpc" else _ask_http(place)
    if text != payloads.TEXT:
        raise StageError(f"{place.contestant.label} answered something else")


def _ask_rpc(place: Running) -> str:
    with grpc.insecure_channel(place.address) as channel:
        stub = chat_service_pb2_grpc.ChatServiceStub(channel)
        answer = stub.Complete(payloads.message(payloads.UNARY), timeout=ANSWER_S)
    return answer.choices[0].message.content[0].text


def _ask_http(place: Running) -> str:
    headers = {**place.headers, "Content-Type": "application/json"}
    request = urllib.request.Request(
        place.url, data=payloads.body(payloads.UNARY, stream=False), headers=headers
    )
    with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
        return json.loads(answer.read())["choices"][0]["message"]["content"]
