"""Closed loops by h2load: so many calls in flight, each followed by the next as soon as it is answered.

It owns the command and the reading of what h2load prints and logs. A run is a number of calls and
not a time, so that no call is under way at its end, whose work would be counted and its answer not.
h2load counts HTTP statuses alone, and a gRPC error is a 200: `refusal` looks at the bytes and at
what reached the upstream.
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
from bench.stage import Running, Stage, StageError

CONNECTIONS_MAX: Final = 8
"""gRPC callers keep few connections and put many calls on each."""
STREAMS_PER_CONNECTION_MAX: Final = 100
RUN_S: Final = 120.0
"""The longest that a run may take before it is given up."""
WARM_S: Final = 0.5
WARMER: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """What h2load says of a run. `latencies_ms` are of calls that were answered."""

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


def warmed(stage: Stage, place: Running, script: str, *, in_flight: int) -> Closed:
    """More and more calls, until a run takes long enough to say how many a second there will be."""
    calls = in_flight
    while True:
        closed = run(stage, place, script, in_flight=in_flight, calls=calls)
        if closed.seconds >= WARM_S or not closed.calls:
            return closed
        calls *= WARMER


def run(stage: Stage, place: Running, script: str, *, in_flight: int, calls: int) -> Closed:
    with TemporaryDirectory() as folder:
        request, log = Path(folder, "request"), Path(folder, "log")
        stream = script != payloads.UNARY
        is_rpc = place.contestant.protocol == "grpc"
        request.write_bytes(payloads.frame(script) if is_rpc else payloads.body(script, stream=stream))
        command = [machine.tool("h2load"), "--requests", str(calls), "--data", str(request)]
        command += ["--log-file", str(log), *_shape(place, script, in_flight)]
        done = subprocess.run(stage.load(command), capture_output=True, text=True, timeout=RUN_S, check=False)
        if done.returncode:
            raise StageError(f"h2load: {done.stderr.strip()[-200:]}")
        return parsed(done.stdout, log.read_text().splitlines())


def _shape(place: Running, script: str, in_flight: int) -> list[str]:
    if place.contestant.protocol == "http":
        headers = [f"{name}: {text}" for name, text in place.headers.items()]
        spread = ["--h1", "--clients", str(in_flight)]
        target = place.url
        headers.append("content-type: application/json")
    else:
        connections, streams = spread_over(in_flight)
        headers = ["content-type: application/grpc", "te: trailers"]
        spread = ["--clients", str(connections), "--max-concurrent-streams", str(streams)]
        target = f"http://{place.address}/togetherchat.v1.ChatService/{payloads.method(script)}"
    return [*spread, *(word for header in headers for word in ("--header", header)), target]


def spread_over(in_flight: int) -> tuple[int, int]:
    """Connections, and calls at a time on each."""
    connections = min(in_flight, max(CONNECTIONS_MAX, in_flight // STREAMS_PER_CONNECTION_MAX))
    return connections, in_flight // connections


def parsed(printed: str, log: Iterable[str]) -> Closed:
    requests = _numbers(r"requests: .* (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", printed)
    (data_bytes,) = _numbers(r"traffic: .*\((\d+)\) data", printed)
    found = re.search(r"finished in ([\d.]+)(us|ms|s),", printed)
    if found is None:
        raise StageError("h2load printed something else")
    seconds = float(found[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[found[2]]
    rows = [line.split("\t") for line in log]
    return Closed(
        calls=requests[1],
        failed=requests[2],
        seconds=seconds,
        data_bytes=data_bytes,
        latencies_ms=tuple(int(row[2]) / 1000 for row in rows if row[1] == "200"),
    )


def _numbers(pattern: str, text: str) -> list[int]:
    found = re.search(pattern, text)
    if found is None:
        raise StageError("h2load printed something else")
    return [int(group) for group in found.groups()]


def refusal(closed: Closed, *, text_bytes: int, reached_upstream: int | None) -> str | None:
    """Why the run proves nothing, if so. A refusal is fast: without this the worst server wins."""
    if not closed.calls:
        return "no call was answered"
    if closed.failed:
        return f"{closed.failed} calls failed"
    if closed.data_bytes < closed.calls * text_bytes:
        return f"answers of {closed.data_bytes / closed.calls:.0f} bytes are too short to hold the text"
    if reached_upstream is not None and reached_upstream < closed.calls:
        return f"{closed.calls} calls were answered, and {reached_upstream} reached the upstream"
    return None
