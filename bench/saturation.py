"""Closed loops with h2load: a fixed number of calls in flight; each response is followed by the next call.

Owns the command, and parses what h2load prints and logs. A run is a number of calls, not a duration:
calls in flight at the end of a duration would cost CPU without being counted. h2load counts only HTTP
statuses, and a gRPC error has status 200. So `invalid_reason` also checks the bytes received and the calls
that reached the upstream.
"""

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench import machine, payloads
from bench.samples import percentile
from bench.stage import RunningContestant, Stage, StageError

CONNECTIONS_MAX: Final = 8
"""gRPC clients keep few connections and send many calls on each."""
STREAMS_PER_CONNECTION_MAX: Final = 100
RUN_S: Final = 120.0
"""The longest time that a run may take."""
WARM_UP_S: Final = 0.5
WARM_UP_FACTOR: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoopResult:
    """The result of one run of h2load. `latencies_ms` holds the successful calls."""

    calls: int
    failed: int
    seconds: float
    data_bytes: int
    latencies_ms: tuple[float, ...]

    @property
    def per_s(self) -> float:
        return self.calls / self.seconds

    def latency_ms(self, share: float) -> float:
        return percentile(self.latencies_ms, share)


def warmed(stage: Stage, server: RunningContestant, script: str, *, in_flight: int) -> ClosedLoopResult:
    """Run more and more calls, until a run is long enough to estimate the calls per second."""
    calls = in_flight
    while True:
        closed = run(stage, server, script, in_flight=in_flight, calls=calls)
        if closed.seconds >= WARM_UP_S or not closed.calls:
            return closed
        calls *= WARM_UP_FACTOR


def run(
    stage: Stage, server: RunningContestant, script: str, *, in_flight: int, calls: int
) -> ClosedLoopResult:
    with TemporaryDirectory() as folder:
        request, log = Path(folder, "request"), Path(folder, "log")
        stream = script != payloads.UNARY
        is_grpc = server.contestant.protocol == "grpc"
        request.write_bytes(payloads.frame(script) if is_grpc else payloads.body(script, stream=stream))
        command = [machine.tool("h2load"), "--requests", str(calls), "--data", str(request)]
        command += ["--log-file", str(log), *_shape(server, script, in_flight)]
        done = subprocess.run(stage.load(command), capture_output=True, text=True, timeout=RUN_S, check=False)
        if done.returncode:
            raise StageError(f"h2load: {done.stderr.strip()[-200:]}")
        return parsed(done.stdout, log.read_text().splitlines())


def _shape(server: RunningContestant, script: str, in_flight: int) -> list[str]:
    headers = [f"{name}: {text}" for name, text in server.headers.items()]
    if server.contestant.protocol == "http":
        headers.append("content-type: application/json")
        shape = ["--h1", "--clients", str(in_flight)]
        target = server.url
    else:
        headers += ["content-type: application/grpc", "te: trailers"]
        connections, streams = spread_over(in_flight)
        shape = ["--clients", str(connections), "--max-concurrent-streams", str(streams)]
        target = f"http://{server.address}/togetherchat.v1.ChatService/{payloads.method(script)}"
    return [*shape, *(word for header in headers for word in ("--header", header)), target]


def spread_over(in_flight: int) -> tuple[int, int]:
    """Return the number of connections, and the concurrent calls on each."""
    connections = min(in_flight, max(CONNECTIONS_MAX, in_flight // STREAMS_PER_CONNECTION_MAX))
    return connections, in_flight // connections


def parsed(printed: str, log: Iterable[str]) -> ClosedLoopResult:
    requests = _numbers(r"requests: .* (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", printed)
    (data_bytes,) = _numbers(r"traffic: .*\((\d+)\) data", printed)
    found = re.search(r"finished in ([\d.]+)(us|ms|s),", printed)
    if found is None:
        raise StageError("the output of h2load is not in the known format")
    seconds = float(found[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[found[2]]
    rows = [line.split("\t") for line in log]
    return ClosedLoopResult(
        calls=requests[1],
        failed=requests[2],
        seconds=seconds,
        data_bytes=data_bytes,
        latencies_ms=tuple(int(row[2]) / 1000 for row in rows if row[1] == "200"),
    )


def _numbers(pattern: str, text: str) -> list[int]:
    found = re.search(pattern, text)
    if found is None:
        raise StageError("the output of h2load is not in the known format")
    return [int(group) for group in found.groups()]


def invalid_reason(closed: ClosedLoopResult, *, text_bytes: int, reached_upstream: int | None) -> str | None:
    """Return why the run is invalid, or None.

    A rejection is fast: without this check the server that rejects most would win.
    """
    if not closed.calls:
        return "no call succeeded"
    if closed.failed:
        return f"{closed.failed} calls failed"
    if closed.data_bytes < closed.calls * text_bytes:
        return f"responses of {closed.data_bytes / closed.calls:.0f} bytes are too short to hold the text"
    if reached_upstream is not None and reached_upstream < closed.calls:
        return f"{closed.calls} calls succeeded, but {reached_upstream} reached the upstream"
    return None
