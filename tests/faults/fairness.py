"""`make fairness`: what a tenant notices of another that offers ten times what the service can do.

Both call at random times, whether or not earlier calls have ended. The rows of one table are measured one after
the other against one process.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from faults.load import CALLS_MAX, CAPACITY, RESPONSE_S, SPREAD, Callers, at
from faults.responses import valid_response
from faults.served import served
from support.scripted_upstream import ScriptedUpstream
from support.tenants import Keys, bearer
from support.upstream_script import Pause

MODEST_RATE = 0.3 * CAPACITY
"""Calls per second of the tenant that is watched: less than its half."""
QUEUED_MAX = 64
QUEUE_TIMEOUT_S = 1.0
GREEDY = (0.0, 1.0, 2.0, 10.0)
LATENCY_RATIO_MAX = 1.2
COLUMNS = (
    "greedy tenant offers", "modest: calls", "failed", "p50 ms", "p99 ms", "p50 / alone",
    "greedy: served a second", "rejected", "verdict",
)  # fmt: skip


async def measured(address, keys, times, seconds, alone_s):
    """Offer both loads at once. Return the row, and the median latency of the modest tenant."""
    modest_key, greedy_key = keys
    async with (
        Callers(address, metadata=bearer(modest_key)) as modest,
        Callers(address, metadata=bearer(greedy_key)) as greedy,
    ):
        offers = [modest.offer(MODEST_RATE, seconds + 1)]
        if times:
            offers.append(greedy.offer(CAPACITY * times, seconds + 1, seed=2))
        outcomes, *others = await asyncio.gather(*offers)
    steady = [one for one in outcomes if one.due_s >= 1.0]
    counts = Counter(one.ended for one in (others[0] if others else ()) if one.due_s >= 1.0)
    took = [one.took_s for one in steady if one.ended == "OK"]
    failed = len(steady) - len(took)
    median_ms = at(took, 0.5)
    ratio = median_ms / (alone_s or median_ms)
    holds = not failed and ratio <= LATENCY_RATIO_MAX
    cells = (
        f"{times:g} times the capacity" if times else "nothing",
        len(steady),
        failed,
        f"{median_ms:.0f}",
        f"{at(took, 0.99):.0f}",
        f"{ratio:.2f}",
        f"{counts['OK'] / seconds:.1f}",
        counts.total() - counts["OK"],
        "holds" if holds else "does not hold",
    )
    return f"| {' | '.join(map(str, cells))} |", median_ms, holds


async def main(options):
    write(
        f"{CALLS_MAX} permits, a queue of {QUEUED_MAX}; responses take {RESPONSE_S} s on average: {CAPACITY:.0f} calls a "
        f"second pass. The modest tenant offers {MODEST_RATE:.0f} a second."
    )
    chance = random.Random(1)

    def script(received):
        return (Pause(RESPONSE_S * chance.uniform(1 - SPREAD, 1 + SPREAD)), *valid_response(received))

    failures, alone_ms = 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        keys = Keys(Path(folder) / "keys")
        pair = keys.create("modest"), keys.create("greedy")
        flags = (
            *("--max-concurrent-calls", str(CALLS_MAX), "--max-queued-calls", str(QUEUED_MAX)),
            *("--queue-timeout-s", str(QUEUE_TIMEOUT_S), "--api-keys-file", str(keys.path)),
        )
        async with ScriptedUpstream(script) as upstream, served(upstream.base_url, *flags) as service:
            write(f"| {' | '.join(COLUMNS)} |\n" + "|---" * len(COLUMNS) + "|")
            for times in GREEDY:
                row, median_ms, holds = await measured(
                    service.address, pair, times, options.seconds, alone_ms
                )
                alone_ms = alone_ms or median_ms
                failures += not holds
                write(row)
    return failures


def write(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make fairness", description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="duration of each row")
    sys.exit(asyncio.run(main(parser.parse_args())))
