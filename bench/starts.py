"""Figures that start processes of their own: start, import, and two workers against one."""

import subprocess
import sys
from collections.abc import Callable
from typing import Final

from bench import paced, payloads, procfs
from bench.contestants import BY_NAME
from bench.figures import closed_loop
from bench.openstreams import StreamsLoad
from bench.stage import Stage, StageError
from bench.turn import MICROSECONDS, Capacities, Turn, Values

IMPORT: Final = """
import time
began = time.perf_counter()
from togetherchat_client import connect
print(time.perf_counter() - began)
"""
WORKERS_IN_FLIGHT: Final = 64
PACED_WORKERS: Final = "paced workers"
PACED_WORKERS_STREAMS: Final = 2 * max(paced.STREAMS)
NO_CAPACITIES: Final[Capacities] = {}


def import_s(stage: Stage) -> Values:
    """Measure the import of the client library in a new interpreter."""
    command = stage.load([sys.executable, "-c", IMPORT])
    return {"seconds": float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)}


def start_s(stage: Stage, name: str) -> Values:
    """Measure the time from the command to the first SERVING."""
    with stage.running(BY_NAME[name]) as server:
        return {"seconds": server.start_s, "resident_mib": procfs.resident_mib(server.pid)}


def workers(stage: Stage, seconds: int, count: int) -> Values:
    """Measure unary calls with `count` workers on as many cores.

    If the load has no cores of its own, two workers share theirs with it. Compare the CPU per call
    then, not the calls per second.
    """
    cores = stage.cores.gateway if count == 1 else stage.cores.pair
    with stage.running(BY_NAME["ours"], flags=["--workers", str(count)], cores=cores) as server:
        turn = Turn(stage=stage, server=server, seconds=seconds, capacities=NO_CAPACITIES)
        before = procfs.cpu_s_by_process(server.pid)
        closed, cpu_s = closed_loop(turn, payloads.UNARY, WORKERS_IN_FLIGHT)
        after = procfs.cpu_s_by_process(server.pid)
    used = sorted((after[pid] - before.get(pid, 0.0) for pid in after), reverse=True)[:count]
    return {
        "cpu_us": cpu_s / closed.calls * MICROSECONDS,
        "per_s": closed.per_s,
        "busiest_share": used[0] / sum(used),
    }


def paced_workers(stage: Stage, load: Callable[[int], StreamsLoad]) -> Values:
    """Measure twice the streams of one worker with two."""
    if not stage.cores.load_is_elsewhere:
        raise StageError("not measured: two workers and the load need four cores")
    with stage.running(BY_NAME["ours"], flags=["--workers", "2"], cores=stage.cores.pair) as server:
        return paced.measured(stage, server, load(PACED_WORKERS_STREAMS))


def scaling(one: float, many: float, count: int) -> float:
    """Return how many times the work of one worker `count` workers do, from the CPU of a call with each."""
    return count * one / many
