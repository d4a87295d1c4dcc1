"""Calls at a steady rate, whatever the answers: ghz for gRPC, vegeta for HTTP.

h2load has a rate as well, but wakes ten times a second and sends what is due in one go: the queue
that it makes itself would be most of what is measured.
"""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench import machine, payloads
from bench.stage import Running, Stage, StageError

END_S: Final = 60.0
CONNECTIONS: Final = 8
NS_PER_MS: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """What callers at that rate saw."""

    calls: int
    failed: int
    p50_ms: float
    p99_ms: float


def run(stage: Stage, place: Running, *, per_s: float, seconds: float) -> Steady:
    with TemporaryDirectory() as folder:
        request = Path(folder, "request")
        if place.contestant.protocol == "grpc":
            request.write_bytes(payloads.message(payloads.UNARY).SerializeToString())
            return of_ghz(_output(stage.load(_ghz(place, request, per_s, seconds)), seconds))
        request.write_bytes(payloads.body(payloads.UNARY, stream=False))
        results = Path(folder, "results")
        _output(stage.load(_vegeta(place, request, results, per_s, seconds)), seconds)
        report = [machine.tool("vegeta"), "report", "-type", "json", str(results)]
        return of_vegeta(_output(stage.load(report), seconds))


def _ghz(place: Running, request: Path, per_s: float, seconds: float) -> list[str]:
    return [
        *(machine.tool("ghz"), "--insecure", "--async", "--format", "json", "--binary-file", str(request)),
        *("--proto", "protos/togetherchat/v1/chat_service.proto", "--import-paths", "protos"),
        *("--call", "togetherchat.v1.ChatService.Complete", "--rps", str(round(per_s))),
        *("--total", str(round(per_s * seconds)), "--connections", str(CONNECTIONS)),
        *("--concurrency", str(CONNECTIONS), place.address),
    ]


def _vegeta(place: Running, request: Path, results: Path, per_s: float, seconds: float) -> list[str]:
    targets = request.with_name("targets")
    targets.write_text(f"POST {place.url}\n")
    headers = {**place.headers, "Content-Type": "application/json"}
    return [
        *(machine.tool("vegeta"), "attack", "-targets", str(targets), "-body", str(request)),
        *("-rate", f"{round(per_s)}/1s", "-duration", f"{seconds}s", "-output", str(results)),
        *("-timeout", f"{END_S / 2}s"),
        *(word for name, text in headers.items() for word in ("-header", f"{name}: {text}")),
    ]


def _output(command: list[str], seconds: float) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + END_S, check=False)
    if done.returncode:
        raise StageError(f"{Path(command[3]).name}: {done.stderr.strip()[-200:]}")
    return done.stdout


def of_ghz(printed: str) -> Steady:
    said = json.loads(printed)
    statuses: Mapping[str, int] = said.get("statusCodeDistribution") or {}
    shares = {row["percentage"]: row["latency"] / NS_PER_MS for row in said.get("latencyDistribution") or ()}
    return Steady(
        calls=said["count"],
        failed=said["count"] - statuses.get("OK", 0),
        p50_ms=shares.get(50, 0.0),
        p99_ms=shares.get(99, 0.0),
    )


def of_vegeta(printed: str) -> Steady:
    said = json.loads(printed)
    statuses: Mapping[str, int] = said["status_codes"] or {}
    return Steady(
        calls=said["requests"],
        failed=said["requests"] - statuses.get("200", 0),
        p50_ms=said["latencies"]["50th"] / NS_PER_MS,
        p99_ms=said["latencies"]["99th"] / NS_PER_MS,
    )
