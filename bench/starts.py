"""What is measured on processes that are started for it: start, import, and two workers against one."""

import subprocess
import sys
from typing import Final

from bench import payloads, procfs
from bench.contestants import BY_NAME
from bench.figures import MICROSECONDS, Capacities, Turn, Values, closed_loop
from bench.stage import Stage

IMPORT: Final = """
import time
began = time.perf_counter()
from togetherchat_client import connect
print(time.perf_counter() - began)
"""
WORKERS_IN_FLIGHT: Final = 64
NO_CAPACITIES: Final[Capacities] = {}


def import_s(stage: Stage) -> Values:
    """Of the client library, by a Python that has imported nothing."""
    command = stage.load([sys.executable, "-c", IMPORT])
    return {"seconds": float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)}


def start_s(stage: Stage, name: str) -> Values:
    """From its command to its first SERVING."""
    with stage.running(BY_NAME[name]) as place:
        return {"seconds": place.start_s, "resident_mib": procfs.resident_mib(place.pid)}


def workers(stage: Stage, seconds: int, count: int) -> Values:
    """Unary calls with so many workers, on as many cores.

    Where the load has no cores of its own, two workers share theirs with it and the calls a second
    say little; how the CPU of a call grows with the workers says what is lost to their number.
    """
    cores = stage.cores.gateway if count == 1 else stage.cores.pair
    with stage.running(BY_NAME["ours"], flags=["--workers", str(count)], cores=cores) as place:
        turn = Turn(stage=stage, place=place, seconds=seconds, capacities=NO_CAPACITIES)
        before = procfs.cpu_s_by_process(place.pid)
        closed, cpu_s = closed_loop(turn, payloads.UNARY, WORKERS_IN_FLIGHT)
        after = procfs.cpu_s_by_process(place.pid)
    used = sorted((after[pid] - before.get(pid, 0.0) for pid in after), reverse=True)[:count]
    return {
        "cpu_us": cpu_s / closed.calls * MICROSECONDS,
        "per_s": closed.per_s,
        "busiest_share": used[0] / sum(used),
    }


def scaling(one: float, many: float, count: int) -> float:
    """How many times the work of one worker `count` can do, by the CPU of a call with one and with many."""
    return count * one / many
