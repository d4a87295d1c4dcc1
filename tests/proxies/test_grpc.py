"""gRPC through nginx and HAProxy: the same as without a proxy."""

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from proxies.provider import (
    BROKEN,
    COMPLETION,
    FIRST_TOKEN,
    LAST_TOKEN,
    LONG_STATUS,
    RELEASED_S,
    STREAM,
    TOKENS,
    released_one_by_one,
)
from proxies.reverse import chain
from support import openai
from support.app import collect, failing, grpc_timeout, request
from support.channels import goaway_received
from support.scripted_upstream import always
from support.upstream_script import Pause, Stall, json_response

OF_ALL = health_pb2.HealthCheckRequest()


async def next_text(call):
    """Return the text of the next event that has one."""
    while not (event := await call.read()).delta.text:
        pass
    return event.delta.text


async def test_a_call(proxy):
    """The response, and the trailers of the call."""
    async with chain(proxy, always(COMPLETION)) as one:
        call = one.front.chat.Complete(request(), metadata=[("x-request-id", "mine")])
        response = await call
        trailers = dict(await call.trailing_metadata())

    assert "Hello" == response.choices[0].message.content[0].text
    assert "mine" == trailers["x-request-id"]


async def test_tokens_arrive_one_by_one(proxy):
    """The provider sends each token after the caller has received the one before it."""
    script, events = released_one_by_one()
    async with chain(proxy, always(script)) as one, asyncio.timeout(20):
        call = one.front.chat.StreamComplete(request())
        for event, token in zip(events, TOKENS, strict=True):
            event.set()
            assert token == await next_text(call)
        call.cancel()


async def test_the_deadline_reaches_the_service(proxy):
    """The service ends the call, with its own reason."""
    async with chain(proxy, always((Stall(),))) as one:
        failure = await failing(one.front.chat.Complete(request(), metadata=grpc_timeout(700)))

    assert (grpc.StatusCode.DEADLINE_EXCEEDED, "CALLER_DEADLINE") == (failure.code, failure.info.reason)


@pytest.mark.parametrize("method", ["Complete", "StreamComplete"])
async def test_a_cancelled_call_releases_the_provider(proxy, method):
    """Before the first byte of the response."""
    async with chain(proxy, always((Stall(),))) as one:
        call = getattr(one.front.chat, method)(request())
        waiting = asyncio.ensure_future(call.code())
        await one.upstream.received()
        call.cancel()
        await one.upstream.closed(0, within_s=RELEASED_S)
        await waiting


async def test_a_cancelled_stream_releases_the_provider(proxy):
    """In the middle of the response."""
    script = (FIRST_TOKEN, Stall())
    async with chain(proxy, always(script)) as one:
        call = one.front.chat.StreamComplete(request())
        await next_text(call)
        call.cancel()
        await one.upstream.closed(0, within_s=RELEASED_S)


async def test_the_details_of_an_error_arrive(proxy):
    """The status of a unary call and of a stream, with every detail of the trailers."""
    limited = json_response(429, openai.error("Slow down."), headers={"retry-after": "7"})
    async with chain(proxy, always(limited)) as one:
        failures = [await failing(one.front.chat.Complete(request()))]
        _, failure = await collect(one.front.chat.StreamComplete(request()))
        failures.append(failure)

    for failure in failures:
        assert grpc.StatusCode.RESOURCE_EXHAUSTED is failure.code
        assert "RATE_LIMITED" == failure.info.reason
        assert failure.details["RetryInfo"].retry_delay.seconds >= 7
        assert int(failure.pushback) >= 7000


async def test_a_long_status_arrives(proxy):
    """The provider's message has characters of four bytes: gRPC sends each as twelve."""
    async with chain(proxy, always(LONG_STATUS)) as one:
        failure = await failing(one.front.chat.Complete(request()))

    assert (grpc.StatusCode.INVALID_ARGUMENT, "UPSTREAM_INVALID_REQUEST") == (
        failure.code,
        failure.info.reason,
    )


async def test_a_stream_that_fails_in_its_middle(proxy):
    """The caller receives what there is, and then the reason."""
    async with chain(proxy, always(BROKEN)) as one:
        events, failure = await collect(one.front.chat.StreamComplete(request()))

    assert "Hel" == "".join(event.delta.text for event in events)
    assert (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_TRUNCATED") == (failure.code, failure.info.reason)


async def test_a_large_request(proxy):
    """A request of 5 MB."""
    async with chain(proxy, always(COMPLETION)) as one:
        await one.front.chat.Complete(request("x" * 5_000_000))
        (received,) = one.upstream.request_log.requests

    assert 5_000_000 < len(received.body)


async def test_the_longest_key(proxy):
    """The service accepts keys and JWTs of 4,096 characters."""
    async with chain(proxy, always(COMPLETION), upstream_credentials="caller") as one:
        token = f"Bearer {'t' * 4096}"
        await one.front.chat.Complete(request(), metadata=[("authorization", token)])
        (received,) = one.upstream.request_log.requests

    assert token == received.headers["authorization"]


async def test_a_watch_sees_the_stop(proxy):
    """A client that watches the health receives each change."""
    async with chain(proxy, always(COMPLETION)) as one:
        watch = health_pb2_grpc.HealthStub(one.front.channel).Watch(OF_ALL)
        first = (await watch.read()).status
        stopping = asyncio.ensure_future(one.service.app.app.stop())
        second = (await watch.read()).status
        await stopping

    serving, not_serving = (
        health_pb2.HealthCheckResponse.ServingStatus.Value(name) for name in ("SERVING", "NOT_SERVING")
    )
    assert (serving, not_serving) == (first, second)


IDLE = {
    "nginx": [("server_name", "keepalive_timeout 1s;\n        server_name")],
    "haproxy": [("timeout http-request 10s", "timeout http-request 10s\n    timeout http-keep-alive 1s")],
}


async def test_an_idle_connection_that_the_proxy_closes_fails_no_call(proxy):
    """The next call opens a connection, although the channel sends keepalive pings."""
    options = [
        ("grpc.enable_retries", 0),
        ("grpc.keepalive_time_ms", 300),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    async with chain(proxy, always(COMPLETION), edits=IDLE[proxy.name], options=options) as one:
        await one.front.chat.Complete(request())
        await goaway_received(one.front.channel)
        await one.front.chat.Complete(request())


async def test_a_silent_call_is_not_idle(proxy):
    """A call outlasts the time after which the proxy closes idle connections."""
    script = (Pause(2.5), *COMPLETION)
    options = [("grpc.enable_retries", 0), ("grpc.keepalive_time_ms", 300)]
    async with chain(proxy, always(script), edits=IDLE[proxy.name], options=options) as one:
        await one.front.chat.Complete(request())


async def test_a_stream_outlasts_the_age_of_its_connection(proxy):
    """The service closes the connection gracefully, and the proxy does not cut the stream."""
    script = (FIRST_TOKEN, Pause(2.5), *LAST_TOKEN)
    async with chain(proxy, always(script), max_connection_age_s=1.0) as one:
        events, failure = await collect(one.front.chat.StreamComplete(request()))

    assert (None, "Hello") == (failure, "".join(event.delta.text for event in events))


async def test_connections_of_the_service_end_and_fail_no_call(nginx):
    """The service closes connections at their age, while calls arrive. HAProxy 2.6 loses some that are just ending."""
    async with chain(nginx, always(STREAM), max_connection_age_s=1.0) as one:

        async def calls():
            ended = asyncio.get_running_loop().time() + 4
            while asyncio.get_running_loop().time() < ended:
                _, failure = await collect(one.front.chat.StreamComplete(request()))
                assert failure is None

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(calls())
        requests = len(one.upstream.request_log.requests)

    assert 20 < requests
