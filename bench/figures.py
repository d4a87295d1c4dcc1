"""The figures: how each of them is measured on one contestant that runs. A table at the end.

It owns what is asked of whom for how long and what counts as proof; the tools are others'.
CPU is user and system time of all processes of the contestant, divided by what it did meanwhile.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from bench import openstreams, payloads, procfs, rates, saturation
from bench.contestants import BY_NAME
from bench.stage import Running, Stage, StageError

MICROSECONDS: Final = 1e6
IDEAL_PACED_MS: Final = 20.0 * payloads.TOKENS
FIRST_TOKEN_STREAMS: Final = 40
SHORT_TOKENS: Final = 5
OPENING: Final = 50
"""As fast as it takes them, and no faster: grpcio refuses calls when a thousand wait to be accepted."""
HELD_S: Final = 3.0


Values = dict[str, float]
Capacities = Mapping[str, float]
"""Unary calls a second that each contestant has managed, from `unary`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One contestant's turn: where it runs, about how long a loop is, what is known of all of them."""

    stage: Stage
    place: Running
    seconds: int
    capacities: Capacities


def closed_loop(turn: Turn, script: str, in_flight: int) -> tuple[saturation.Closed, float]:
    """The run and the seconds of CPU that it took, after a warm-up and with its proof."""
    stage, place = turn.stage, turn.place
    warm = saturation.warmed(stage, place, script, in_flight=in_flight)
    calls = max(in_flight, round(warm.per_s * turn.seconds))
    seen_before, cpu_before_s = stage.upstream.counts()["calls"], place.cpu_s()
    closed = saturation.run(stage, place, script, in_flight=in_flight, calls=calls)
    cpu_s = place.cpu_s() - cpu_before_s
    reached = stage.upstream.counts()["calls"] - seen_before
    refused = saturation.refusal(
        closed,
        text_bytes=payloads.TEXT_BYTES[script],
        reached_upstream=reached if place.contestant.asks_upstream else None,
    )
    if refused:
        raise StageError(refused)
    return closed, cpu_s


def unary(turn: Turn, variant: str) -> Values:
    """Whole answers, `variant` calls in flight."""
    closed, cpu_s = closed_loop(turn, payloads.UNARY, int(variant))
    return {
        "cpu_us": cpu_s / closed.calls * MICROSECONDS,
        "per_s": closed.per_s,
        "p50_ms": closed.latency_ms(0.5),
        "p99_ms": closed.latency_ms(0.99),
        "resident_mib": procfs.resident_mib(turn.place.pid),
    }


def burst(turn: Turn, variant: str) -> Values:
    """Streams whose tokens are all there at once, `variant` of them in flight."""
    closed, cpu_s = closed_loop(turn, payloads.BURST, int(variant))
    tokens = closed.calls * payloads.TOKENS
    return {
        "cpu_us": cpu_s / tokens * MICROSECONDS,
        "per_s": tokens / closed.seconds,
        "bytes": closed.data_bytes / tokens,
    }


def trickle(turn: Turn, variant: str) -> Values:
    """`variant` streams of 400 tokens, one every 20 ms."""
    streams = int(variant)
    cpu_before_s = turn.place.cpu_s()
    seen = openstreams.run(turn.stage, turn.place, payloads.PACED, streams=streams)
    cpu_s = turn.place.cpu_s() - cpu_before_s
    if refused := openstreams.refusal(seen, tokens=streams * payloads.TOKENS):
        raise StageError(refused)
    return {
        "cpu_us": cpu_s / seen.tokens * MICROSECONDS,
        "token_p50_ms": seen.token.p50,
        "token_p99_ms": seen.token.p99,
        "first_token_p50_ms": seen.first_token.p50,
        "first_token_p99_ms": seen.first_token.p99,
        "stretch": seen.duration.p50 / IDEAL_PACED_MS - 1,
        "resident_mib": procfs.resident_mib(turn.place.pid),
    }


def first_token(turn: Turn, variant: str) -> Values:
    """Short streams one after the other, `variant` at a time: what is added before the first token."""
    streams = int(variant)
    repeat = FIRST_TOKEN_STREAMS // streams
    seen = openstreams.run(turn.stage, turn.place, payloads.SHORT, streams=streams, repeat=repeat)
    if refused := openstreams.refusal(seen, tokens=streams * repeat * SHORT_TOKENS):
        raise StageError(refused)
    return {"p50_ms": seen.first_token.p50, "p99_ms": seen.first_token.p99}


def added(turn: Turn, variant: str) -> Values:
    """A steady rate of unary calls, `variant` percent of its capacity; then the same to the upstream."""
    name = turn.place.contestant.name
    if name not in turn.capacities:
        raise StageError("its capacity is not known: measure `unary` in the same run")
    per_s = max(turn.capacities[name] * int(variant) / 100, 5.0)
    through = _steady(turn, turn.place, per_s)
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


def _steady(turn: Turn, place: Running, per_s: float) -> rates.Steady:
    seen = rates.run(turn.stage, place, per_s=per_s, seconds=float(turn.seconds))
    if seen.failed or not seen.calls:
        raise StageError(f"{seen.failed} of {seen.calls} calls failed at {per_s:.0f} a second")
    return seen


def held(turn: Turn, variant: str) -> Values:
    """`variant` streams open at once: memory of each, and the health meanwhile."""
    streams = int(variant)
    if streams > turn.place.contestant.streams_max:
        raise StageError(f"not tried with more than {turn.place.contestant.streams_max} streams")
    before_mib = procfs.resident_mib(turn.place.pid)
    open_mib: list[float] = []
    seen = openstreams.run(
        turn.stage,
        turn.place,
        payloads.HELD,
        streams=streams,
        opening=OPENING,
        hold_s=HELD_S,
        when_open=lambda: open_mib.append(procfs.resident_mib(turn.place.pid)),
    )
    if refused := openstreams.refusal(seen, tokens=streams):
        raise StageError(refused)
    if not open_mib or seen.health_failed:
        raise StageError(f"the health failed {seen.health_failed} times")
    return {
        "kib_a_stream": (open_mib[0] - before_mib) * 1024 / streams,
        "resident_mib": open_mib[0],
        "health_p50_ms": seen.health.p50,
        "health_p99_ms": seen.health.p99,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What is measured, how, and under which loads."""

    name: str
    measure: Callable[[Turn, str], Values]
    variants: Mapping[str, int]
    """The loads, and how many rounds each of them gets in a full run."""
    leaves_out: frozenset[str] = frozenset()
    fresh: bool = False
    """Whether each turn needs a process that has done nothing before."""


FIGURES: Final = (
    Figure(name="unary", measure=unary, variants={"16": 4}),
    Figure(name="burst", measure=burst, variants={"8": 4}),
    Figure(name="trickle", measure=trickle, variants={"100": 2, "10": 1}),
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
        measure=held,
        variants={"100": 1, "1000": 1, "10000": 1},
        leaves_out=frozenset({"direct"}),
        fresh=True,
    ),
)
