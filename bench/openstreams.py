"""Runs bench/go/streams, our load program for streams; its head says what public tools lack."""

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from bench import payloads
from bench.stage import Running, Stage, StageError

END_S: Final = 10.0
LIMIT_S: Final = 90.0
"""Streams that have not ended by then fail: the slowest peer takes a third of this."""
PROVING_STREAMS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """Quantiles of times in milliseconds."""

    count: int
    p50: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
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


def run(  # noqa: PLR0913  what is asked is said by name
    stage: Stage,
    place: Running,
    script: str,
    *,
    streams: int,
    repeat: int = 1,
    opening: int = 0,
    hold_s: float = 0.0,
    when_open: Callable[[], None] | None = None,
) -> Streams:
    """Run streams; at most `opening` of them wait for their first token at once (0: all).

    `when_open` is called while all streams are open, after each has received its first token.
    """
    command = [stage.built("streams"), "--model", script, "--streams", str(streams), "--repeat", str(repeat)]
    command += ["--opening", str(opening), "--hold", f"{hold_s}s", "--limit", f"{LIMIT_S}s", *_target(place)]
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


def _target(place: Running) -> list[str]:
    if place.contestant.protocol == "grpc":
        return ["--protocol", "grpc", "--target", place.address]
    headers = (f"{name}: {text}" for name, text in place.headers.items())
    return [
        *("--protocol", "http", "--target", place.url, "--health", place.health_url),
        *(word for header in headers for word in ("--header", header)),
    ]


def parsed(line: str) -> Streams:
    try:
        said = json.loads(line)
    except json.JSONDecodeError as error:
        raise StageError("bench/go/streams printed no result") from error
    return Streams(
        streams=said["streams"],
        failed=said["failed"],
        failures=tuple(said["failures"] or ()),
        tokens=said["tokens"],
        first_token=_quantiles(said["first_token_ms"]),
        duration=_quantiles(said["duration_ms"]),
        token=_quantiles(said["token_ms"]),
        health=_quantiles(said["health_ms"]),
        health_failed=said["health_failed"],
    )


def _quantiles(said: Mapping[str, float]) -> Quantiles:
    return Quantiles(count=int(said["count"]), p50=said["p50"], p99=said["p99"], max=said["max"])


def prove(stage: Stage, place: Running) -> None:
    """Check that some concurrent streams deliver all tokens, which saturated runs cannot see."""
    seen = run(stage, place, payloads.BURST, streams=PROVING_STREAMS)
    if refused := refusal(seen, tokens=PROVING_STREAMS * payloads.TOKENS):
        raise StageError(refused)


def refusal(seen: Streams, *, tokens: int) -> str | None:
    """Return why the run is invalid, or None; `tokens` is the number that all streams must deliver."""
    if seen.failed:
        return f"{seen.failed} of {seen.streams} streams failed: {'; '.join(seen.failures)[:160]}"
    if seen.tokens < tokens:
        return f"{seen.tokens} of {tokens} tokens arrived"
    return None
