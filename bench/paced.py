"""Many paced streams: 50 tokens a second each, opened in one instant or arriving at a steady rate.

This is the load of a chat service. Failed streams do not make a run invalid: how many failed, and with which
status, is a figure. The share of their cores that load and upstream used shows whether they were the limit.
"""

import time
from typing import Final

from bench import openstreams, payloads, procfs
from bench.openstreams import Schedule, StreamsLoad, StreamsResult
from bench.stage import RunningContestant, Stage, StageError
from bench.turn import MICROSECONDS, Turn, Values

STREAMS: Final = (100, 300, 600, 1000)
IDLE_STREAMS: Final = 10
"""So few that a token waits for nothing."""
GAP_S: Final = 0.02
SCRIPTED_S: Final = payloads.TOKENS * GAP_S
CONNECTIONS: Final = 10
"""gRPC connections, as ten services or ten replicas have."""
LATE_S: Final = 52.0
"""A stream that ends later than this after its scripted end has failed: no contestant holds up the run."""
FAILED: Final = "failed: "
"""Prefix of the values that count failed streams by cause."""
FAILED_SHARE_MAX: Final = 0.1
WARM_UP: Final = StreamsLoad(script=payloads.SHORT, streams=20, repeat=5, connections=CONNECTIONS)


def at_once(streams: int, *, tokens: int = payloads.TOKENS) -> StreamsLoad:
    """Return the load that opens all streams in the same instant."""
    return StreamsLoad(
        script=payloads.paced(tokens),
        streams=streams,
        tokens=tokens,
        connections=CONNECTIONS,
        limit_s=_scripted_s(tokens) + LATE_S,
    )


def arriving(open_streams: int) -> StreamsLoad:
    """Return the load whose arrivals keep `open_streams` open, if each takes as long as scripted."""
    schedule = Schedule(
        per_s=open_streams / SCRIPTED_S,
        token_gap_s=GAP_S,
        fill_s=SCRIPTED_S,
        measured_s=SCRIPTED_S,
        drain_s=SCRIPTED_S,
    )
    return StreamsLoad(
        script=payloads.PACED,
        tokens=payloads.TOKENS,
        connections=CONNECTIONS,
        limit_s=2 * SCRIPTED_S + SCRIPTED_S + LATE_S / 2,
        schedule=schedule,
    )


def burst(turn: Turn, variant: str) -> Values:
    """Measure `variant` streams that open in the same instant."""
    return measured(turn.stage, turn.server, at_once(int(variant)))


def steady(turn: Turn, variant: str) -> Values:
    """Measure streams that arrive evenly spread, while `variant` are open."""
    return measured(turn.stage, turn.server, arriving(int(variant)))


def measured(stage: Stage, server: RunningContestant, load: StreamsLoad) -> Values:
    openstreams.run(stage, server, WARM_UP)
    upstream_before_s, cpu_before_s, began_s = stage.upstream.cpu_s(), server.cpu_s(), time.monotonic()
    result = openstreams.run(stage, server, load)
    taken_s, cpu_s = time.monotonic() - began_s, server.cpu_s() - cpu_before_s
    harness_s = result.cpu_s + stage.upstream.cpu_s() - upstream_before_s
    if not result.all_tokens:
        raise StageError(openstreams.invalid_reason(result, tokens=1) or "no token arrived")
    return values(
        result,
        tokens=load.tokens,
        cpu_s=cpu_s,
        harness_share=harness_s / taken_s / len(stage.cores.load),
        resident_mib=procfs.resident_mib(server.pid),
    )


def values(
    result: StreamsResult, *, tokens: int, cpu_s: float, harness_share: float, resident_mib: float
) -> Values:
    """Return the figures of a run; latencies only if a measured stream has them."""
    found = {
        "streams": float(result.streams),
        "failed": float(result.failed),
        "cpu_us": cpu_s / result.all_tokens * MICROSECONDS,
        "harness_share": harness_share,
        "resident_mib": resident_mib,
    }
    if result.first_token.count:
        found |= {
            "first_token_p50_ms": result.first_token.p50,
            "first_token_p99_ms": result.first_token.p99,
            "token_p99_ms": result.token.p99,
        }
    if result.duration.count:
        found["stretch"] = stretch(result, tokens)
    return found | {f"{FAILED}{cause}": float(count) for cause, count in result.failures.items()}


def stretch(result: StreamsResult, tokens: int) -> float:
    """Return by which share the median stream took longer than scripted."""
    return result.duration.p50 / (_scripted_s(tokens) * 1000) - 1


def gave_up(found: Values) -> bool:
    """Return whether so many streams failed that more streams are not tried."""
    return found["failed"] > FAILED_SHARE_MAX * found["streams"]


def _scripted_s(tokens: int) -> float:
    return tokens * GAP_S
