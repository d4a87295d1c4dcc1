"""Runs bench/go/streams, our load program for streams; its head says what public tools lack."""

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from bench import payloads
from bench.cores import patient
from bench.stage import RunningContestant, Stage, StageError

END_S: Final = 10.0
LIMIT_S: Final = 90.0
"""Streams that have not ended by then fail: the slowest peer takes a third of this."""
VALIDATION_STREAMS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Evenly spread arrivals, whether earlier streams have ended or not; only those of `measured_s` count.

    The arrivals before make the number of open streams constant. Those after keep it constant while
    measured streams are open.
    """

    per_s: float
    token_gap_s: float
    """Over so much time arrivals are spread, so that the streams' tokens do not share one instant."""
    fill_s: float
    measured_s: float
    drain_s: float

    def flags(self) -> dict[str, str]:
        """Return the options of the load program, by name."""
        return {
            "every": f"{1e6 / self.per_s:.1f}us",
            "token-gap": f"{self.token_gap_s}s",
            "fill": f"{self.fill_s}s",
            "measured": f"{self.measured_s}s",
            "drain": f"{self.drain_s}s",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamsLoad:
    """What the load program does: a number of streams at once, or streams on a schedule."""

    script: str
    streams: int = 0
    repeat: int = 1
    opening: int = 0
    """The most streams that wait for their first token at once; 0: all."""
    hold_s: float = 0.0
    tokens: int = 0
    """Tokens without which a stream has failed; 0: the program does not check."""
    connections: int = 0
    """gRPC connections; 0: one for each hundred streams."""
    limit_s: float = LIMIT_S
    schedule: Schedule | None = None

    def flags(self) -> list[str]:
        """Return the options of the load program."""
        flags = {
            "model": self.script,
            "streams": self.streams,
            "repeat": self.repeat,
            "opening": self.opening,
            "hold": f"{self.hold_s}s",
            "tokens": self.tokens,
            "connections": self.connections,
            "limit": f"{self.limit_s}s",
        }
        if self.schedule:
            flags |= self.schedule.flags()
        return [word for name, value in flags.items() for word in (f"--{name}", str(value))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """Quantiles of times in milliseconds."""

    count: int
    p50: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamsResult:
    """The result of the streams of one run."""

    streams: int
    failed: int
    failures: Mapping[str, int]
    """The number of failed streams by cause."""
    tokens: int
    all_tokens: int
    """The tokens of all streams, including those that are not measured."""
    first_token: Quantiles
    duration: Quantiles
    token: Quantiles
    health: Quantiles
    health_failed: int
    cpu_s: float
    """CPU time of the load program."""


def run(
    stage: Stage,
    server: RunningContestant,
    load: StreamsLoad,
    *,
    when_open: Callable[[], None] | None = None,
) -> StreamsResult:
    """Run streams. `when_open` is called while held streams are open, each after its first token."""
    command = patient([stage.built("streams"), *load.flags(), *_target(server)])
    with subprocess.Popen(stage.load(command), stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None:
            raise StageError("no output")
        try:
            line = process.stdout.readline()
            if load.hold_s and when_open and json.loads(line or "{}").get("open"):
                when_open()
            last = (process.stdout.read() or line).strip().splitlines()[-1:]
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(END_S)
    return parsed(last[0] if last else "")


def _target(server: RunningContestant) -> list[str]:
    headers = (f"{name}: {text}" for name, text in server.headers.items())
    given = [word for header in headers for word in ("--header", header)]
    if server.contestant.protocol == "grpc":
        return ["--protocol", "grpc", "--target", server.address, *given]
    return ["--protocol", "http", "--target", server.url, "--health", server.health_url, *given]


def parsed(line: str) -> StreamsResult:
    try:
        printed = json.loads(line)
    except json.JSONDecodeError as error:
        raise StageError("bench/go/streams printed no result") from error
    return StreamsResult(
        streams=printed["streams"],
        failed=printed["failed"],
        failures=printed["failures"],
        tokens=printed["tokens"],
        all_tokens=printed["all_tokens"],
        first_token=_quantiles(printed["first_token_ms"]),
        duration=_quantiles(printed["duration_ms"]),
        token=_quantiles(printed["token_ms"]),
        health=_quantiles(printed["health_ms"]),
        health_failed=printed["health_failed"],
        cpu_s=printed["cpu_s"],
    )


def _quantiles(printed: Mapping[str, float]) -> Quantiles:
    return Quantiles(count=int(printed["count"]), p50=printed["p50"], p99=printed["p99"], max=printed["max"])


def validate(stage: Stage, server: RunningContestant) -> None:
    """Check that some concurrent streams deliver all tokens, which saturated runs cannot see."""
    result = run(stage, server, StreamsLoad(script=payloads.BURST, streams=VALIDATION_STREAMS))
    if reason := invalid_reason(result, tokens=VALIDATION_STREAMS * payloads.TOKENS):
        raise StageError(reason)


def invalid_reason(result: StreamsResult, *, tokens: int) -> str | None:
    """Return why the run is invalid, or None; `tokens` is the number that all streams must deliver."""
    if result.failed:
        causes = "; ".join(f"{count} x {cause}" for cause, count in result.failures.items())
        return f"{result.failed} of {result.streams} streams failed: {causes[:160]}"
    if result.tokens < tokens:
        return f"{result.tokens} of {tokens} tokens arrived"
    return None
