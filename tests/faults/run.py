"""A seeded run: many callers, a faulty upstream, and the service in a process of its own.

    python -m faults.run --seed 7 --calls 20000

The plan follows from the seed; the run is recorded as a history and checked. If an invariant is
violated, the seed is printed and the history is written to `--history`.
"""

import argparse
import asyncio
import gc
import secrets
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from faults.caller_actor import CallerActor
from faults.checker import check, outlived, retry_windows
from faults.history import History, Probe, Record, Remains
from faults.plan import ACTIONS, planned
from faults.served import served
from faults.upstream_actor import UpstreamActor
from support.http_client import get_page
from support.scripted_upstream import ScriptedUpstream
from togetherchat_server.telemetry.metrics import definitions as names

FLAGS = (
    *("--first-token-timeout-s", "0.8", "--response-timeout-s", "0.8", "--stream-idle-timeout-s", "0.6", "--write-timeout-s", "2"),
    *("--call-timeout-s", "30", "--request-read-timeout-s", "5", "--connect-timeout-s", "2"),
)  # fmt: skip
BUSY = (names.CALLS_IN_FLIGHT, names.CALLS_QUEUED, names.UPSTREAM_REQUESTS_IN_FLIGHT)
SETTLES_S = 10.0
PROBE_EVERY_S = 0.05
FREEZE_EVERY = 20
"""Probes."""
WARM_UP = 10**9 + 100
"""The number of the first call before the plan: these calls allocate what is kept permanently."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """The history of a run, and its cost."""

    seed: int
    history: History
    seconds: float
    cpu_s: float
    memory_mib: tuple
    odd_lines: Counter


async def run(*, seed, calls, callers=48, actions=None):
    """Make `calls` calls, `callers` at a time."""
    upstream_actor, probes = UpstreamActor(seed, actions), []
    async with ScriptedUpstream(upstream_actor.script) as upstream:
        upstream_actor.upstream = upstream
        async with served(upstream.base_url, *FLAGS) as service, CallerActor(service.address) as actor:
            await _act(actor, (planned(seed, WARM_UP + number, {"stay": 1}) for number in range(50)), callers)
            before, memory_before = await _held(service), service.memory_mib()
            began_s, cpu_s = time.monotonic(), service.cpu_s()
            probing = asyncio.create_task(_probe(service, probes))
            await _act(actor, (planned(seed, number, actions) for number in range(calls)), callers)
            seconds, cpu_s = time.monotonic() - began_s, service.cpu_s() - cpu_s
            counts = await _settled(service)
            probing.cancel()
            gc.unfreeze()
            after, memory_after = await _held(service), service.memory_mib()
            service.command.process.terminate()
            await service.command.wait_for_exit()
            records = [
                Record(id=one["id"], code=one["code"], reason=one.get("reason", ""), attempts=one["attempts"])
                for one in service.lines("call")
            ]
            odd = Counter(
                line["message"].partition("scene")[0][:90]
                for line in service.lines("log")
                if line["level"] in {"warning", "error"}
            )
    remains = Remains(
        calls_in_flight=counts.value(names.CALLS_IN_FLIGHT) + counts.value(names.CALLS_QUEUED),
        upstream_requests=counts.value(names.UPSTREAM_REQUESTS_IN_FLIGHT),
        descriptors=after - before,
        memory_mib=memory_after - memory_before,
        lines=sum(count for line, count in odd.items() if line.startswith("call ")),
    )
    history = History(
        calls=actor.seen, requests=upstream_actor.requests(), records=records, probes=probes, remains=remains
    )
    return Run(
        seed=seed,
        history=history,
        seconds=seconds,
        cpu_s=cpu_s,
        memory_mib=(memory_before, memory_after),
        odd_lines=odd,
    )


async def _act(actor, plan, callers):
    """Run the plan with a number of callers, each of which makes one call after the other."""

    async def one():
        for call in plan:
            await actor.act(call)

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(one())


async def _probe(service, probes):
    """Probe liveness continuously. A probe that itself started late counts as slow."""
    while True:
        due_s = time.monotonic() + PROBE_EVERY_S
        await asyncio.sleep(PROBE_EVERY_S)
        await get_page(service.admin, "/healthz")
        probes.append(Probe(began_s=due_s - PROBE_EVERY_S, took_s=time.monotonic() - due_s + PROBE_EVERY_S))
        if len(probes) % FREEZE_EVERY == 0:
            # A full collection over the data of 100,000 calls took a second, in which nothing was
            # processed and everything looked late.
            gc.collect(1)
            gc.freeze()


async def _settled(service):
    """The service's gauges once it is idle, or after ten seconds."""
    until_s = time.monotonic() + SETTLES_S
    while True:
        counts = await service.metrics()
        if not any(counts.value(name) for name in BUSY) or time.monotonic() > until_s:
            return counts
        await asyncio.sleep(0.05)


async def _held(service):
    """Open files, minus those of idle connections."""
    return service.descriptors() - (await service.metrics()).value(names.UPSTREAM_CONNECTIONS, state="idle")


def summary(done):
    """The summary of a run, line by line."""
    history = done.history
    endings = Counter(f"{call.code} {call.reason}".strip() for call in history.calls)
    late = sorted((late_s for *_, late_s in outlived(history)), reverse=True)
    probes = sorted(probe.took_s - PROBE_EVERY_S for probe in history.probes)
    windows = max(
        ((retries - 0.1 * firsts, retries, firsts) for _, retries, firsts in retry_windows(history)),
        default=(0, 0, 0),
    )
    calls, requests = len(history.calls), len(history.requests)
    retries = requests - len({request.id for request in history.requests})
    yield f"seed {done.seed}: {calls} calls in {done.seconds:.0f} s ({calls / max(done.seconds, 1e-9):.0f}/s), {requests} upstream requests, {retries} of them retries"
    yield f"CPU of the service {done.cpu_s:.1f} s ({done.cpu_s / calls * 1000:.2f} ms a call), memory {done.memory_mib[0]:.0f} -> {done.memory_mib[1]:.0f} MiB, open files {history.remains.descriptors:+}"
    yield f"sockets that outlived their calls: {len(late)}, the worst by {late[0] * 1000 if late else 0:.0f} ms, beyond 50 ms: {sum(one > 0.05 for one in late)}, beyond 250 ms: {sum(one > 0.25 for one in late)}"
    yield f"probes: {len(probes)}, the median {probes[len(probes) // 2] * 1000:.0f} ms, the worst {probes[-1] * 1000:.0f} ms"
    yield f"retries in the worst 10 s: {windows[1]} beside {windows[2]} calls"
    yield "actions of callers: " + ", ".join(
        f"{name} {count}" for name, count in Counter(call.action for call in history.calls).most_common()
    )
    yield from (f"  {count:7} {ending}" for ending, count in endings.most_common())
    yield from (f"  {count:7} x logged: {line}" for line, count in done.odd_lines.most_common(8))


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="faults.run", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--callers", type=int, default=48)
    parser.add_argument("--only", choices=ACTIONS, help="the action of every caller")
    parser.add_argument(
        "--tolerance-ms", type=float, default=250.0, help="how long a socket may outlive its call"
    )
    parser.add_argument("--history", type=Path, default=Path("faults-history.jsonl"))
    options = parser.parse_args(arguments)
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    done = asyncio.run(
        run(
            seed=seed,
            calls=options.calls,
            callers=options.callers,
            actions={options.only: 1} if options.only else None,
        )
    )
    violations = check(done.history)
    sys.stdout.writelines(f"{line}\n" for line in summary(done))
    if violations:
        with options.history.open("w", encoding="utf-8") as file:
            done.history.write(file)
        sys.stdout.writelines(f"VIOLATED {violation}\n" for violation in violations[:40])
        sys.stdout.write(
            f"{len(violations)} violations; again with --seed {seed}; the history is in {options.history}\n"
        )
        return 1
    sys.stdout.write("no invariant was violated\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
