"""One of two replicas behind a proxy is stopped with SIGTERM while calls arrive: none of them is lost."""

import asyncio
import json
import signal
from contextlib import AsyncExitStack

from proxies.reverse import Backend
from support.app import collect, request
from support.command import running_command
from support.http_client import COMPLETIONS, request_body
from togetherchat_client.channel import service_config

LISTENERS = ("--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
SANDBOX = ("--sandbox", "--sandbox-tokens-per-second", "300", "--log-format", "json")
DRAIN_DELAY_S = {"nginx": "0", "haproxy": "5"}
"""HAProxy checks every second, and a replica is down after two failures. nginx does not check."""
# gRPC's core fails a call that crosses its GOAWAY with a bare CANCELLED: see docs/workers.md.
SHIPPED = [("grpc.service_config", service_config())]
CALLERS = 3
CALLS = 60


def backend_in(banner):
    """Return the addresses in the line that the service prints at its start."""
    grpc, http, admin = (
        banner.partition(prefix)[2].partition(",")[0]
        for prefix in ("gRPC on ", "HTTP on http://", "admin on http://")
    )
    return Backend(grpc=grpc, http=http.removesuffix("/v1"), admin=admin)


async def unary_over_grpc(front):
    response = await front.chat.Complete(request(max_tokens=30))
    assert response.choices[0].message.content[0].text


async def stream_over_grpc(front):
    events, failure = await collect(front.chat.StreamComplete(request(max_tokens=30)))
    assert failure is None, failure
    assert events[-1].HasField("completed")


async def unary_over_http(front):
    response = await front.http.post(COMPLETIONS, json=request_body(max_tokens=30))
    assert 200 == response.status_code, response.text


async def stream_over_http(front):
    response = await front.http.post(COMPLETIONS, json=request_body(max_tokens=30, stream=True))
    assert (200, True) == (response.status_code, response.text.endswith("data: [DONE]\n\n")), response.text


KINDS = (unary_over_grpc, stream_over_grpc, unary_over_http, stream_over_http)


def calls_in(command):
    """Return the call records in the log of a replica."""
    lines = [json.loads(line) for line in command.lines if line.startswith("{")]
    return [line for line in lines if line["event"] == "call"]


async def test_a_replica_that_stops_loses_no_call(proxy):
    """The calls in flight there finish, and the others reach the second replica."""
    arguments = (
        *LISTENERS,
        *SANDBOX,
        "--trusted-proxies",
        "127.0.0.1",
        "--drain-delay-s",
        DRAIN_DELAY_S[proxy.name],
    )
    finished = 0
    more = asyncio.Condition()
    stopping = asyncio.Event()

    async def caller(front, call):
        nonlocal finished
        while not stopping.is_set():
            await call(front)
            async with more:
                finished += 1
                more.notify_all()

    async def until(calls):
        async with more:
            await more.wait_for(lambda: finished >= calls)

    async with AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(running_command(*arguments)) for _ in range(2)]
        backends = [backend_in(await one.wait_for_line(" SERVING: ")) for one in (first, second)]
        front = await stack.enter_async_context(proxy.in_front_of(*backends, options=SHIPPED))
        async with asyncio.TaskGroup() as group:
            for call in KINDS:
                for _ in range(CALLERS):
                    group.create_task(caller(front, call))
            await until(CALLS)
            first.signal(signal.SIGTERM)
            before = len(calls_in(first))
            assert 0 == await first.wait_for_exit()
            await until(finished + CALLS)
            stopping.set()
        at_first, at_second = calls_in(first), calls_in(second)

    assert 0 < before < len(at_first), "calls were in flight at the signal"
    assert CALLS < len(at_second)
    assert {"OK"} == {record["code"] for record in at_first + at_second}
