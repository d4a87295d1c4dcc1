"""Sends calls at a steady rate, independent of the responses: with ghz over gRPC, with vegeta over HTTP.

h2load also has a rate, but wakes ten times a second and sends all due requests at once. Its own queue
would be most of the measured latency.
"""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench import machine, payloads
from bench.stage import RunningContestant, Stage, StageError

END_S: Final = 60.0
CONNECTIONS: Final = 8
NS_PER_MS: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class SteadyRateResult:
    """Calls, failures and latencies at one rate."""

    calls: int
    failed: int
    p50_ms: float
    p99_ms: float


def run(stage: Stage, server: RunningContestant, *, per_s: float, seconds: float) -> SteadyRateResult:
    with TemporaryDirectory() as folder:
        request = Path(folder, "request")
        if server.contestant.protocol == "grpc":
            request.write_bytes(payloads.message(payloads.UNARY).SerializeToString())
            return of_ghz(_output(stage.load(_ghz(server, request, per_s, seconds)), seconds))
        request.write_bytes(payloads.body(payloads.UNARY, stream=False))
        results = Path(folder, "results")
        _output(stage.load(_vegeta(server, request, results, per_s, seconds)), seconds)
        command = [machine.tool("vegeta"), "report", "-type", "json", str(results)]
        return of_vegeta(_output(stage.load(command), seconds))


def _ghz(server: RunningContestant, request: Path, per_s: float, seconds: float) -> list[str]:
    return [
        *(machine.tool("ghz"), "--insecure", "--async", "--format", "json", "--binary-file", str(request)),
        *("--proto", "protos/togetherchat/v1/chat_service.proto", "--import-paths", "protos"),
        *("--call", "togetherchat.v1.ChatService.Complete", "--rps", str(round(per_s))),
        *("--total", str(round(per_s * seconds)), "--connections", str(CONNECTIONS)),
        *("--concurrency", str(CONNECTIONS), server.address),
    ]


def _vegeta(
    server: RunningContestant, request: Path, results: Path, per_s: float, seconds: float
) -> list[str]:
    targets = request.with_name("targets")
    targets.write_text(f"POST {server.url}\n")
    headers = {**server.headers, "Content-Type": "application/json"}
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


def of_ghz(printed: str) -> SteadyRateResult:
    report = json.loads(printed)
    statuses: Mapping[str, int] = report.get("statusCodeDistribution") or {}
    shares = {
        row["percentage"]: row["latency"] / NS_PER_MS for row in report.get("latencyDistribution") or ()
    }
    return SteadyRateResult(
        calls=report["count"],
        failed=report["count"] - statuses.get("OK", 0),
        p50_ms=shares.get(50, 0.0),
        p99_ms=shares.get(99, 0.0),
    )


def of_vegeta(printed: str) -> SteadyRateResult:
    report = json.loads(printed)
    statuses: Mapping[str, int] = report["status_codes"] or {}
    return SteadyRateResult(
        calls=report["requests"],
        failed=report["requests"] - statuses.get("200", 0),
        p50_ms=report["latencies"]["50th"] / NS_PER_MS,
        p99_ms=report["latencies"]["99th"] / NS_PER_MS,
    )
