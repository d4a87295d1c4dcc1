"""Open-loop load and its results, measured at the caller.

    python -m faults.load overload     # 1x, 2x, 5x, 10x of what the bound on calls admits
    python -m faults.load outage       # a minute without an upstream, and the recovery

The service runs in a process of its own; the callers and the upstream share this one. A column shows
the lateness of this process, to tell it from that of the service.
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

from faults.responses import error_response, valid_response
from faults.served import served
from support.app import failure_of, request
from support.http2_peer import END_STREAM, HEADERS, http2_peer
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Pause, Reset, Stall
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc
from togetherchat_server.calls.admission import QUEUE_TIMEOUT_MESSAGE

CALLS_MAX = 32
RESPONSE_S = 0.5
SPREAD = 0.5
"""Responses take half to one and a half times as long. With equal times all permits would be taken and
released together, and waiting in a queue shorter than such a wave would be in vain."""
CAPACITY = CALLS_MAX / RESPONSE_S
"""Calls per second that the bound on calls admits, whatever the machine."""
CHANNELS = 8
OPTIONS = (("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1))
HEALTH_EVERY_S = 0.02
OUTAGE_RATE = 60.0
WINDOW_S = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One call. Times in seconds: when it was due since the start, and how long it took."""

    due_s: float
    took_s: float
    ended: str
    queued: bool = False


class Callers:
    """Calls at given times, whether or not earlier ones have ended."""

    def __init__(self, address, *, metadata=()):
        self._metadata = metadata
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
        """Make calls at a mean rate per second, at random times; returns every outcome."""
        chance, due_s, began_s, outcomes = random.Random(seed), 0.0, time.monotonic(), []
        async with asyncio.TaskGroup() as group:
            while (due_s := due_s + chance.expovariate(rate)) < seconds:
                await asyncio.sleep(began_s + due_s - time.monotonic())
                group.create_task(self._call(len(outcomes), due_s, began_s, outcomes))
        return outcomes

    async def _call(self, number, due_s, began_s, outcomes):
        from_s, ended, queued = time.monotonic(), "OK", False
        try:
            await self._stubs[number % CHANNELS].Complete(request(), timeout=30, metadata=self._metadata)
        except aio.AioRpcError as error:
            failure = failure_of(error)
            ended = failure.info.reason if failure.details else failure.code.name
            queued = QUEUE_TIMEOUT_MESSAGE in failure.message
        now_s = time.monotonic()
        # If this process started a call late, the delay counts, as it would for a user.
        outcomes.append(
            Outcome(
                due_s=from_s - began_s,
                took_s=now_s - min(from_s, began_s + due_s),
                ended=ended,
                queued=queued,
            )
        )


async def check_health(callers, took, late):
    """Check the health continuously, and record the lateness of this process."""
    while True:
        due_s = time.monotonic() + HEALTH_EVERY_S
        await asyncio.sleep(HEALTH_EVERY_S)
        late.append(time.monotonic() - due_s)
        from_s = time.monotonic()
        response = await callers.health.Check(health_pb2.HealthCheckRequest(), timeout=10)
        took.append(time.monotonic() - from_s)
        assert response.status == health_pb2.HealthCheckResponse.SERVING


HEADINGS = (
    "offered  calls/s  goodput  of peak  rejected  p50 ms  p99 ms  of these after queueing  otherwise"
    "  health p99 ms  own lateness p99 ms  CPU"
)


async def overload(options):
    """Print the table of 1x to 10x, and the number of rejections per second that fill a core."""

    chance = random.Random(1)

    def script(received):
        return (Pause(RESPONSE_S * chance.uniform(1 - SPREAD, 1 + SPREAD)), *valid_response(received))

    bounds = ("--max-concurrent-calls", str(CALLS_MAX), "--max-queued-calls", str(options.max_queued_calls))
    write(
        f"{CALLS_MAX} concurrent calls, a queue of {options.max_queued_calls}, responses after {RESPONSE_S} s on average:"
        f" {CAPACITY:.0f} calls/s pass"
    )
    write(HEADINGS)
    peak = 0.0
    async with (
        ScriptedUpstream(script) as upstream,
        served(upstream.base_url, *bounds) as service,
        Callers(service.address) as callers,
    ):
        for times in (1, 2, 5, 10):
            peak = max(peak, await _step(service, callers, times, options.seconds, peak))
    await _saturate(options)


async def _step(service, callers, times, seconds, peak):
    """Run one load and print its line; returns the goodput. The first second, which fills the permits, is left out."""
    took, late, cpu_s, from_s = [], [], service.cpu_s(), time.monotonic()
    checking = asyncio.create_task(check_health(callers, took, late))
    outcomes = await callers.offer(CAPACITY * times, seconds + 1)
    checking.cancel()
    cpu = (service.cpu_s() - cpu_s) / (time.monotonic() - from_s)
    steady = [one for one in outcomes if one.due_s >= 1.0]
    counts = Counter(one.ended for one in steady)
    rejected = [one.took_s for one in steady if one.ended == "OVERLOADED"]
    queued = sum(one.queued for one in steady)
    goodput = counts["OK"] / seconds
    otherwise = len(steady) - counts["OK"] - len(rejected)
    write(
        f"{times:6}x {len(steady) / seconds:8.0f} {goodput:8.1f} {goodput / max(peak, goodput):8.0%} {len(rejected):8}"
        f" {at(rejected, 0.5):7.1f} {at(rejected, 0.99):7.1f} {queued:23} {otherwise:10} {at(took, 0.99):14.1f}"
        f" {at(late, 0.99):20.1f} {cpu:4.0%}"
    )
    return goodput


async def _saturate(options):
    """Rejections as fast as hand-written frames can request them: the only permit is taken."""
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        served(upstream.base_url, "--max-concurrent-calls", "1", "--max-queued-calls", "0") as service,
    ):
        held = service.chat.Complete(request())
        await upstream.received()
        cpu_s, from_s = service.cpu_s(), time.monotonic()
        rejected = sum(await asyncio.gather(*(_hammer(service.address, options.seconds) for _ in range(4))))
        took_s, cpu_s = time.monotonic() - from_s, service.cpu_s() - cpu_s
        held.cancel()
    write(
        f"rejections only: {rejected / took_s:.0f}/s at {cpu_s / took_s:.0%} of a core; "
        f"a core is full at {rejected / cpu_s:.0f}/s ({cpu_s / rejected * 1e6:.0f} us each)"
    )


async def _hammer(address, seconds, at_once=50):
    """Call on one connection, `at_once` calls at a time; returns how many ended."""
    message, until_s, ended_calls, opened = request().SerializeToString(), time.monotonic() + seconds, 0, 0
    async with http2_peer(address) as peer:
        while time.monotonic() < until_s:
            while opened - ended_calls < at_once:
                peer.call(2 * opened + 1, "/togetherchat.v1.ChatService/Complete", message)
                opened += 1
            before = ended_calls
            await peer.seen(
                lambda frame: frame.kind == HEADERS and bool(frame.flags & END_STREAM), within_s=10
            )
            ended = sum(frame.kind == HEADERS and bool(frame.flags & END_STREAM) for frame in peer.frames)
            ended_calls = before + ended
            peer.frames.clear()
    return ended_calls


async def outage(options):
    """An upstream that works, then fails every request, then works again."""
    down = {"now": False}
    failing = {"503": error_response(503), "reset": (Reset(),)}[options.kind]

    def script(received):
        return failing if down["now"] else (Pause(0.05), *valid_response(received))

    write(
        f"{OUTAGE_RATE:.0f} calls/s; {WINDOW_S} s healthy, {options.seconds:.0f} s of {options.kind}, {2 * WINDOW_S} s healthy"
    )
    async with (
        ScriptedUpstream(script) as upstream,
        served(upstream.base_url) as service,
        Callers(service.address) as callers,
    ):
        began_s = time.monotonic()
        loop = asyncio.get_running_loop()
        loop.call_later(WINDOW_S, down.update, {"now": True})
        loop.call_later(WINDOW_S + options.seconds, down.update, {"now": False})
        outcomes = await callers.offer(OUTAGE_RATE, options.seconds + 3 * WINDOW_S)
        requests = [
            (one.received_at - began_s, one.headers["x-request-id"]) for one in upstream.request_log.requests
        ]
    _windows(outcomes, requests)
    retries, firsts = worst_window(requests)
    write(
        f"retries in the worst {WINDOW_S} s up to a retry: {retries} beside {firsts} first attempts;"
        f" a tenth of them plus one per second is {0.1 * firsts + WINDOW_S:.0f}"
    )
    back_s = WINDOW_S + options.seconds
    late = [one.due_s for one in outcomes if one.due_s >= back_s and one.ended != "OK"]
    write(
        f"after the recovery of the upstream: {len(late)} calls failed, the last {max(late, default=back_s) - back_s:.1f} s after it"
    )


def _windows(outcomes, requests):
    """Print one line per ten seconds."""
    _, again = split(requests)
    write("seconds   calls     OK  requests  retries  retries/calls  failed p50 ms  p99 ms  reasons")
    for start_s in range(0, round(max(one.due_s for one in outcomes)), WINDOW_S):
        calls = [one for one in outcomes if start_s <= one.due_s < start_s + WINDOW_S]
        failed = [one.took_s for one in calls if one.ended != "OK"]
        sent = _within(start_s, [at_s for at_s, _ in requests])
        retries = _within(start_s, again)
        ends = Counter(one.ended for one in calls if one.ended != "OK")
        write(
            f"{start_s:3}-{start_s + WINDOW_S:3} {len(calls):7} {len(calls) - len(failed):6} {sent:9} {retries:8}"
            f" {retries / len(calls):14.2f} {at(failed, 0.5):14.1f} {at(failed, 0.99):7.1f}"
            f"  {', '.join(f'{name} {count}' for name, count in ends.items())}"
        )


def split(requests):
    """The times of first attempts and of retries."""
    first = {}
    for at_s, call in requests:
        first.setdefault(call, at_s)
    return sorted(first.values()), sorted(at_s for at_s, call in requests if at_s != first[call])


def worst_window(requests):
    """Retries and first attempts in the ten seconds with the most retries beyond a tenth."""
    firsts, again = split(requests)

    def up_to(end_s):
        return [sum(end_s - WINDOW_S < at_s <= end_s for at_s in times) for times in (again, firsts)]

    return max(map(up_to, again), key=lambda counts: counts[0] - 0.1 * counts[1], default=[0, 0])


def _within(start_s, times):
    return sum(start_s <= at_s < start_s + WINDOW_S for at_s in times)


def at(times, share):
    """The quantile of the times, in ms."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000 if ordered else 0.0


def write(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(prog="faults.load", description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["overload", "outage"])
    parser.add_argument("--seconds", type=float, default=None, help="duration of each load, or of the outage")
    parser.add_argument(
        "--kind", choices=["503", "reset"], default="503", help="how the upstream fails in the outage"
    )
    parser.add_argument(
        "--max-queued-calls",
        type=int,
        default=4,
        help="in the proportion of the defaults to the concurrent calls",
    )
    options = parser.parse_args()
    options.seconds = options.seconds or {"overload": 12.0, "outage": 60.0}[options.what]
    # A full collection stops a measuring process for 40 ms or more, and responses that arrive meanwhile
    # look that late. The process ends soon, and produces little garbage until then.
    gc.disable()
    asyncio.run({"overload": overload, "outage": outage}[options.what](options))


if __name__ == "__main__":
    main()
