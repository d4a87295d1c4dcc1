"""Runs bench/go/streams, our load program for streams; its head says what public tools lack."""

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from bench import payloads
from bench.stage import RunningContestant, Stage, StageError

END_S: Final = 10.0
LIMIT_S: Final = 90.0
"""Streams that have not ended by then fail: the slowest peer takes a third of this."""
VALIDATION_STREAMS: Final = 4


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
    failures: tuple[str, ...]
    tokens: int
    first_token: Quantiles
    duration: Quantiles
    token: Quantiles
    health: Quantiles
    health_failed: int


def run(  # noqa: PLR0913  the options are keyword-only
    stage: Stage,
    server: RunningContestant,
    script: str,
    *,
    streams: int,
    repeat: int = 1,
    opening: int = 0,
    hold_s: float = 0.0,
    when_open: Callable[[], None] | None = None,
) -> StreamsResult:
    """Run streams; at most `opening` of them wait for their first token at once (0: all).

    `when_open` is called while all streams are open, after each has received its first token.
    """
    command = [stage.built("streams"), "--model", script, "--streams", str(streams), "--repeat", str(repeat)]
    command += ["--opening", str(opening), "--hold", f"{hold_s}s", "--limit", f"{LIMIT_S}s", *_target(server)]
    with subprocess.Popen(stage.load(command), stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None:
            raise StageError("no output")
        try:
            line = process.stdout.readline()
            if hold_s and when_open and json.loads(line or "{}").get("open"):
                when_open()
            last = (process.stdout.read() or line).strip().splitlines()[-1:]
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(END_S)
    return parsed(last[0] if last else "")


def _target(server: RunningContestant) -> list[str]:
    if server.contestant.protocol == "grpc":
        return ["--protocol", "grpc", "--target", server.address]
    headers = (f"{name}: {text}" for name, text in server.headers.items())
    return [
        *("--protocol", "http", "--target", server.url, "--health", server.health_url),
        *(word for header in headers for word in ("--header", header)),
    ]


def parsed(line: str) -> StreamsResult:
    try:
        printed = json.loads(line)
    except json.JSONDecodeError as error:
        raise StageError("bench/go/streams printed no result") from error
    return StreamsResult(
        streams=printed["streams"],
        failed=printed["failed"],
        failures=tuple(printed["failures"] or ()),
        tokens=printed["tokens"],
        first_token=_quantiles(printed["first_token_ms"]),
        duration=_quantiles(printed["duration_ms"]),
        token=_quantiles(printed["token_ms"]),
        health=_quantiles(printed["health_ms"]),
        health_failed=printed["health_failed"],
    )


def _quantiles(printed: Mapping[str, float]) -> Quantiles:
    return Quantiles(count=int(printed["count"]), p50=printed["p50"], p99=printed["p99"], max=printed["max"])


def validate(stage: Stage, server: RunningContestant) -> None:
    """Check that some concurrent streams deliver all tokens, which saturated runs cannot see."""
    result = run(stage, server, payloads.BURST, streams=VALIDATION_STREAMS)
    if reason := invalid_reason(result, tokens=VALIDATION_STREAMS * payloads.TOKENS):
        raise StageError(reason)


def invalid_reason(result: StreamsResult, *, tokens: int) -> str | None:
    """Return why the run is invalid, or None; `tokens` is the number that all streams must deliver."""
    if result.failed:
        return f"{result.failed} of {result.streams} streams failed: {'; '.join(result.failures)[:160]}"
    if result.tokens < tokens:
        return f"{result.tokens} of {tokens} tokens arrived"
    return None
