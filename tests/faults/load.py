"""Load that does not wait for answers, and what becomes of it. Measured at the caller.

    python -m faults.load overload     # 1x, 2x, 5x, 10x of what the bound on calls lets through
    python -m faults.load outage       # a minute without an upstream, and the way back

The service is a process of its own; the callers and the upstream share this one. So that it is
seen when it is this process that is late, its own lateness is a column of its own.
"""

import argparse
import asyncio
import gc
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass

from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from faults.answers import told, well
from faults.served import served
from support.app import failure_of, request
from support.http2_peer import END_STREAM, HEADERS, http2_peer
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Pause, Reset, Stall
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc
from togetherchat_server.calls.session import QUEUE_TIMEOUT_MESSAGE

PLACES = 32
ANSWER_S = 0.5
SPREAD = 0.5
"""Answers take half as long to half as long again: at one and the same time all places would be taken and
become free together, and a queue that is shorter than such a wave would be waited in for nothing."""
CAPACITY = PLACES / ANSWER_S
"""Calls a second: what the bound on calls lets through, whatever the machine."""
CHANNELS = 8
OPTIONS = (("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1))
HEALTH_EVERY_S = 0.02
OUTAGE_RATE = 60.0
WINDOW_S = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One call. Times in seconds: when it was due since the beginning, and how long it took."""

    due_s: float
    took_s: float
    ended: str
    queued: bool = False


class Callers:
    """Calls at given times, whether or not earlier ones have ended."""

    def __init__(self, address):
        self._channels = [aio.insecure_channel(address, options=OPTIONS) for _ in range(CHANNELS)]
        self._stubs = [service_grpc.ChatServiceStub(channel) for channel in self._channels]
        self.health = health_pb2_grpc.HealthStub(self._channels[0])

    async def __aenter__(self):
        for channel in self._channels:
            await channel.channel_ready()
        return self

    async def __aexit__(self, *exception):
        for channel in self._channels:
            await channel.close()

    async def offer(self, rate, seconds, seed=1):
        """So many calls a second, at times of chance; every outcome."""
        chance, due_s, began_s, outcomes = random.Random(seed), 0.0, time.monotonic(), []
        async with asyncio.TaskGroup() as group:
            while (due_s := due_s + chance.expovariate(rate)) < seconds:
                await asyncio.sleep(began_s + due_s - time.monotonic())
                group.create_task(self._call(len(outcomes), due_s, began_s, outcomes))
        return outcomes

    async def _call(self, number, due_s, began_s, outcomes):
        from_s, ended, queued = time.monotonic(), "OK", False
        try:
            await self._stubs[number % CHANNELS].Complete(request(), timeout=30)
        except aio.AioRpcError as error:
            failure = failure_of(error)
            ended = failure.info.reason if failure.details else failure.code.name
            queued = QUEUE_TIMEOUT_MESSAGE in failure.message
        now_s = time.monotonic()
        # Of a call that began late by this process's own fault the delay counts, as it would for a person.
        outcomes.append(
            Outcome(
                due_s=from_s - began_s,
                took_s=now_s - min(from_s, began_s + due_s),
                ended=ended,
                queued=queued,
            )
        )


async def checked(callers, took, late):
    """Ask for the health every moment, and note this process's own lateness."""
    while True:
        due_s = time.monotonic() + HEALTH_EVERY_S
        await asyncio.sleep(HEALTH_EVERY_S)
        late.append(time.monotonic() - due_s)
        from_s = time.monotonic()
        answer = await callers.health.Check(health_pb2.HealthCheckRequest(), timeout=10)
        took.append(time.monotonic() - from_s)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


HEADINGS = (
    "offered  calls/s  goodput  of peak  refused  p50 ms  p99 ms  of these after a wait  otherwise"
    "  health p99 ms  own lateness p99 ms  CPU"
)


async def overload(words):
    """The table of 1x to 10x, and how many refusals a second fill a core."""

    chance = random.Random(1)

    def script(asked):
        return (Pause(ANSWER_S * chance.uniform(1 - SPREAD, 1 + SPREAD)), *well(asked))

    bounds = ("--max-concurrent-calls", str(PLACES), "--max-queued-calls", str(words.max_queued_calls))
    say(
        f"{PLACES} places, a queue of {words.max_queued_calls}, answers after {ANSWER_S} s on average:"
        f" {CAPACITY:.0f} calls/s pass"
    )
    say(HEADINGS)
    peak = 0.0
    async with (
        ScriptedUpstream(script) as upstream,
        served(upstream.base_url, *bounds) as service,
        Callers(service.address) as callers,
    ):
        for times in (1, 2, 5, 10):
            peak = max(peak, await _step(service, callers, times, words.seconds, peak))
    await _saturate(words)


async def _step(service, callers, times, seconds, peak):
    """One load, and its line; the goodput. The first second, which fills the places, does not count."""
    took, late, cpu_s, from_s = [], [], service.cpu_s(), time.monotonic()
    checking = asyncio.create_task(checked(callers, took, late))
    outcomes = await callers.offer(CAPACITY * times, seconds + 1)
    checking.cancel()
    cpu = (service.cpu_s() - cpu_s) / (time.monotonic() - from_s)
    steady = [one for one in outcomes if one.due_s >= 1.0]
    counts = Counter(one.ended for one in steady)
    refused = [one.took_s for one in steady if one.ended == "OVERLOADED"]
    waited = sum(one.queued for one in steady)
    goodput = counts["OK"] / seconds
    otherwise = len(steady) - counts["OK"] - len(refused)
    say(
        f"{times:6}x {len(steady) / seconds:8.0f} {goodput:8.1f} {goodput / max(peak, goodput):8.0%} {len(refused):8}"
        f" {at(refused, 0.5):7.1f} {at(refused, 0.99):7.1f} {waited:21} {otherwise:10} {at(took, 0.99):14.1f}"
        f" {at(late, 0.99):20.1f} {cpu:4.0%}"
    )
    return goodput


async def _saturate(words):
    """Refusals as fast as hand-written frames can ask for them: the one place is taken."""
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        served(upstream.base_url, "--max-concurrent-calls", "1", "--max-queued-calls", "0") as service,
    ):
        held = service.chat.Complete(request())
        await upstream.asked()
        cpu_s, from_s = service.cpu_s(), time.monotonic()
        refused = sum(await asyncio.gather(*(_hammer(service.address, words.seconds) for _ in range(4))))
        took_s, cpu_s = time.monotonic() - from_s, service.cpu_s() - cpu_s
        held.cancel()
    say(
        f"refusals alone: {refused / took_s:.0f}/s at {cpu_s / took_s:.0%} of a core; "
        f"a core is full at {refused / cpu_s:.0f}/s ({cpu_s / refused * 1e6:.0f} us each)"
    )


async def _hammer(address, seconds, at_once=50):
    """Ask on one connection, `at_once` calls at a time; how many were answered."""
    message, until_s, answered, opened = request().SerializeToString(), time.monotonic() + seconds, 0, 0
    async with http2_peer(address) as peer:
        while time.monotonic() < until_s:
            while opened - answered < at_once:
                peer.call(2 * opened + 1, "/togetherchat.v1.ChatService/Complete", message)
                opened += 1
            before = answered
            await peer.seen(
                lambda frame: frame.kind == HEADERS and bool(frame.flags & END_STREAM), within_s=10
            )
            ended = sum(frame.kind == HEADERS and bool(frame.flags & END_STREAM) for frame in peer.frames)
            answered = before + ended
            peer.frames.clear()
    return answered


async def outage(words):
    """An upstream that is well, then not at all, then well again."""
    down = {"now": False}
    failing = {"503": told(503), "reset": (Reset(),)}[words.kind]

    def script(asked):
        return failing if down["now"] else (Pause(0.05), *well(asked))

    say(
        f"{OUTAGE_RATE:.0f} calls/s; {WINDOW_S} s well, {words.seconds:.0f} s of {words.kind}, {2 * WINDOW_S} s well"
    )
    async with (
        ScriptedUpstream(script) as upstream,
        served(upstream.base_url) as service,
        Callers(service.address) as callers,
    ):
        began_s = time.monotonic()
        loop = asyncio.get_running_loop()
        loop.call_later(WINDOW_S, down.update, {"now": True})
        loop.call_later(WINDOW_S + words.seconds, down.update, {"now": False})
        outcomes = await callers.offer(OUTAGE_RATE, words.seconds + 3 * WINDOW_S)
        requests = [
            (one.received_at - began_s, one.headers["x-request-id"]) for one in upstream.ledger.requests
        ]
    _windows(outcomes, requests)
    retries, firsts = worst_window(requests)
    say(
        f"retries in the worst {WINDOW_S} s up to a retry: {retries} beside {firsts} first attempts;"
        f" a tenth of them and one a second are {0.1 * firsts + WINDOW_S:.0f}"
    )
    back_s = WINDOW_S + words.seconds
    late = [one.due_s for one in outcomes if one.due_s >= back_s and one.ended != "OK"]
    say(
        f"after the return of the upstream: {len(late)} calls failed, the last {max(late, default=back_s) - back_s:.1f} s after it"
    )


def _windows(outcomes, requests):
    """Ten seconds a line."""
    _, again = split(requests)
    say("seconds   calls     OK  requests  retries  retries/calls  failed p50 ms  p99 ms  how they failed")
    for start_s in range(0, round(max(one.due_s for one in outcomes)), WINDOW_S):
        calls = [one for one in outcomes if start_s <= one.due_s < start_s + WINDOW_S]
        failed = [one.took_s for one in calls if one.ended != "OK"]
        asked = _within(start_s, [at_s for at_s, _ in requests])
        retries = _within(start_s, again)
        ends = Counter(one.ended for one in calls if one.ended != "OK")
        say(
            f"{start_s:3}-{start_s + WINDOW_S:3} {len(calls):7} {len(calls) - len(failed):6} {asked:9} {retries:8}"
            f" {retries / len(calls):14.2f} {at(failed, 0.5):14.1f} {at(failed, 0.99):7.1f}"
            f"  {', '.join(f'{name} {count}' for name, count in ends.items())}"
        )


def split(requests):
    """When first attempts came, and when others."""
    first = {}
    for at_s, call in requests:
        first.setdefault(call, at_s)
    return sorted(first.values()), sorted(at_s for at_s, call in requests if at_s != first[call])


def worst_window(requests):
    """Retries and first attempts in the ten seconds up to that retry which had the most of them beyond its due."""
    firsts, again = split(requests)

    def up_to(end_s):
        return [sum(end_s - WINDOW_S < at_s <= end_s for at_s in times) for times in (again, firsts)]

    return max(map(up_to, again), key=lambda counts: counts[0] - 0.1 * counts[1], default=[0, 0])


def _within(start_s, times):
    return sum(start_s <= at_s < start_s + WINDOW_S for at_s in times)


def at(times, share):
    """The time, in ms, that a share of times stays below."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000 if ordered else 0.0


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(prog="faults.load", description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["overload", "outage"])
    parser.add_argument("--seconds", type=float, default=None, help="of each load, or of the outage")
    parser.add_argument("--kind", choices=["503", "reset"], default="503", help="of the outage")
    parser.add_argument(
        "--max-queued-calls", type=int, default=4, help="as many to the places as the defaults have"
    )
    words = parser.parse_args()
    words.seconds = words.seconds or {"overload": 12.0, "outage": 60.0}[words.what]
    # A full collection of what a measuring process has loaded stops it for 40 ms and more, and what
    # was answered meanwhile looks as late as that. It ends soon, and leaves little behind until then.
    gc.disable()
    asyncio.run({"overload": overload, "outage": outage}[words.what](words))


if __name__ == "__main__":
    main()
