"""The figures, and how each is measured on one running contestant. The table is at the end.

Owns the load, its duration, and what counts as a valid measurement. CPU is user and system time of all
processes of the contestant, divided by the work done.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from bench import openstreams, paced, payloads, procfs, rates, saturation
from bench.contestants import BY_NAME, Contestant
from bench.openstreams import StreamsLoad
from bench.stage import RunningContestant, StageError
from bench.turn import MICROSECONDS, Turn, Values

FIRST_TOKEN_STREAMS: Final = 40
SHORT_TOKENS: Final = 5
OPENING: Final = 50
"""Streams that may wait to be accepted: grpcio rejects calls when a thousand wait."""
HELD_S: Final = 3.0


def closed_loop(turn: Turn, script: str, in_flight: int) -> tuple[saturation.ClosedLoopResult, float]:
    """Run a closed loop after a warm-up, validate it, and return it with its CPU seconds."""
    stage, server = turn.stage, turn.server
    warm = saturation.warmed(stage, server, script, in_flight=in_flight)
    calls = max(in_flight, round(warm.per_s * turn.seconds))
    calls_before, cpu_before_s = stage.upstream.counts()["calls"], server.cpu_s()
    closed = saturation.run(stage, server, script, in_flight=in_flight, calls=calls)
    cpu_s = server.cpu_s() - cpu_before_s
    reached = stage.upstream.counts()["calls"] - calls_before
    reason = saturation.invalid_reason(
        closed,
        text_bytes=payloads.TEXT_BYTES[script],
        reached_upstream=reached if server.contestant.calls_upstream else None,
    )
    if reason:
        raise StageError(reason)
    return closed, cpu_s


def unary(turn: Turn, variant: str) -> Values:
    """Measure unary calls, `variant` in flight."""
    closed, cpu_s = closed_loop(turn, payloads.UNARY, int(variant))
    return {
        "cpu_us": cpu_s / closed.calls * MICROSECONDS,
        "per_s": closed.per_s,
        "p50_ms": closed.latency_ms(0.5),
        "p99_ms": closed.latency_ms(0.99),
        "resident_mib": procfs.resident_mib(turn.server.pid),
    }


def burst(turn: Turn, variant: str) -> Values:
    """Measure streams whose tokens are available at once, `variant` in flight."""
    closed, cpu_s = closed_loop(turn, payloads.BURST, int(variant))
    tokens = closed.calls * payloads.TOKENS
    return {
        "cpu_us": cpu_s / tokens * MICROSECONDS,
        "per_s": tokens / closed.seconds,
        "bytes": closed.data_bytes / tokens,
    }


def trickle(turn: Turn, variant: str) -> Values:
    """Measure `variant` streams of 400 tokens, one token every 20 ms."""
    streams = int(variant)
    cpu_before_s = turn.server.cpu_s()
    result = openstreams.run(turn.stage, turn.server, StreamsLoad(script=payloads.PACED, streams=streams))
    cpu_s = turn.server.cpu_s() - cpu_before_s
    if reason := openstreams.invalid_reason(result, tokens=streams * payloads.TOKENS):
        raise StageError(reason)
    return {
        "cpu_us": cpu_s / result.tokens * MICROSECONDS,
        "token_p50_ms": result.token.p50,
        "token_p99_ms": result.token.p99,
        "first_token_p50_ms": result.first_token.p50,
        "first_token_p99_ms": result.first_token.p99,
        "stretch": paced.stretch(result, payloads.TOKENS),
        "resident_mib": procfs.resident_mib(turn.server.pid),
    }


def first_token(turn: Turn, variant: str) -> Values:
    """Measure the time to the first token of short streams, `variant` at a time."""
    streams = int(variant)
    repeat = FIRST_TOKEN_STREAMS // streams
    load = StreamsLoad(script=payloads.SHORT, streams=streams, repeat=repeat)
    result = openstreams.run(turn.stage, turn.server, load)
    if reason := openstreams.invalid_reason(result, tokens=streams * repeat * SHORT_TOKENS):
        raise StageError(reason)
    return {"p50_ms": result.first_token.p50, "p99_ms": result.first_token.p99}


def added(turn: Turn, variant: str) -> Values:
    """Measure the latency added to the upstream's at a steady rate of `variant` percent of the capacity."""
    name = turn.server.contestant.name
    if name not in turn.capacities:
        raise StageError("the capacity is unknown: measure `unary` in the same run")
    per_s = max(turn.capacities[name] * int(variant) / 100, 5.0)
    through = _steady(turn, turn.server, per_s)
    with turn.stage.running(BY_NAME["direct"]) as direct:
        straight = _steady(turn, direct, per_s)
    return {
        "rate": per_s,
        "p50_ms": through.p50_ms - straight.p50_ms,
        "p99_ms": through.p99_ms - straight.p99_ms,
        "p50_through_ms": through.p50_ms,
        "p99_through_ms": through.p99_ms,
        "p50_direct_ms": straight.p50_ms,
        "p99_direct_ms": straight.p99_ms,
    }


def _steady(turn: Turn, server: RunningContestant, per_s: float) -> rates.SteadyRateResult:
    result = rates.run(turn.stage, server, per_s=per_s, seconds=float(turn.seconds))
    if result.failed or not result.calls:
        raise StageError(f"{result.failed} of {result.calls} calls failed at {per_s:.0f} per second")
    return result


def open_streams(turn: Turn, variant: str) -> Values:
    """Measure memory per stream and health latency while `variant` streams are open."""
    streams = int(variant)
    before_mib = procfs.resident_mib(turn.server.pid)
    open_mib: list[float] = []
    result = openstreams.run(
        turn.stage,
        turn.server,
        StreamsLoad(script=payloads.HELD, streams=streams, opening=OPENING, hold_s=HELD_S),
        when_open=lambda: open_mib.append(procfs.resident_mib(turn.server.pid)),
    )
    if reason := openstreams.invalid_reason(result, tokens=streams):
        raise StageError(reason)
    if not open_mib or result.health_failed:
        raise StageError(f"the health check failed {result.health_failed} times")
    return {
        "kib_a_stream": (open_mib[0] - before_mib) * 1024 / streams,
        "resident_mib": open_mib[0],
        "health_p50_ms": result.health.p50,
        "health_p99_ms": result.health.p99,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure, its measurement, and its loads."""

    name: str
    measure: Callable[[Turn, str], Values]
    variants: Mapping[str, int]
    """The loads, and the rounds of each in a full run."""
    leaves_out: frozenset[str] = frozenset()
    fresh: bool = False
    """Whether each measurement needs a new process."""
    gave_up: Callable[[Values], bool] | None = None
    """Whether a contestant with these values is not measured at higher loads."""
    holds_streams: bool = False
    """Whether the load is a number of streams that are held open."""

    def is_for(self, contestant: Contestant) -> bool:
        if contestant.figures and self.name not in contestant.figures:
            return False
        return contestant.name not in self.leaves_out

    def most_for(self, contestant: Contestant) -> float:
        """Return the highest load that is tried."""
        return contestant.streams_max if self.holds_streams else math.inf


PACED: Final = dict.fromkeys(map(str, paced.STREAMS), 1)
FIGURES: Final = (
    Figure(name="unary", measure=unary, variants={"16": 4}),
    Figure(name="burst", measure=burst, variants={"8": 4}),
    Figure(name="trickle", measure=trickle, variants={"100": 2}),
    Figure(name="first token", measure=first_token, variants={"1": 2}),
    Figure(
        name="added latency",
        measure=added,
        variants={"10": 3, "50": 1, "80": 1},
        leaves_out=frozenset({"direct"}),
    ),
    Figure(
        name="streams in flight",
        measure=burst,
        variants={"1": 1, "10": 1, "100": 1, "1000": 1},
        leaves_out=frozenset({"direct", "smg", "portkey", "litellm"}),
    ),
    Figure(
        name="open streams",
        measure=open_streams,
        variants={"100": 1, "1000": 1, "10000": 1},
        leaves_out=frozenset({"direct"}),
        fresh=True,
        holds_streams=True,
    ),
    Figure(name="paced burst", measure=paced.burst, variants=PACED, fresh=True, gave_up=paced.gave_up),
    Figure(
        name="paced steady",
        measure=paced.steady,
        variants={str(paced.IDLE_STREAMS): 1, **PACED},
        fresh=True,
        gave_up=paced.gave_up,
    ),
)
