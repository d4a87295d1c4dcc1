"""When a connection is reused, when it is not, and when a request is sent again."""

import asyncio
import ssl

import pytest

from support.scripted_upstream import ScriptedUpstream, always, in_turn
from support.transport_calls import BODY, failure_of_send, streaming
from support.upstream_script import (
    Fin,
    Pause,
    Reset,
    Send,
    Stall,
    StartReading,
    StopReading,
    chunk,
    head,
    json_response,
    sse,
    sse_head,
)
from togetherchat_server.domain.reasons import Reason
from togetherchat_server.upstream.client import UpstreamClient, UpstreamLimits
from togetherchat_server.upstream.http1_exchange import KEEPALIVE_RACE_S
from togetherchat_server.upstream.pool import ConnectionPool

OK = json_response(200, {"id": "1"})


@pytest.mark.parametrize("end", [Fin(), Reset()])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_expired_keep_alive(serve, key, end, method):
    """If a reused connection closes at once without a byte, the request is sent on a new connection."""
    async with serve(in_turn(OK, (end,), OK)) as (upstream, client):
        for _ in range(2):
            body = BODY if method == "POST" else None
            assert 200 == (await client.send(method, "x", key=key, request_id="r", body=body)).status
        assert [0, 0, 1] == [request.connection for request in upstream.request_log.requests]
        assert 1 == len({request.body for request in upstream.request_log.requests})


async def test_a_request_is_not_sent_again_over_another_connection_of_the_pool(serve, key):
    """If one keep-alive has expired, others may have too, so the request goes to a new connection."""
    both = asyncio.Event()

    def script(request):
        first = request is upstream.request_log.connections[request.connection].requests[0]
        return (Pause(both), *OK) if first and request.connection < 2 else OK if first else (Reset(),)

    async with serve(script) as (upstream, client):
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(client.send("POST", "x", key=key, request_id="r", body=BODY))
            await upstream.received(2)
            both.set()
        assert 200 == (await client.send("POST", "x", key=key, request_id="r", body=BODY)).status
        assert [2, 1] == [
            upstream.request_log.requests[-1].connection,
            len(upstream.request_log.connections[2].requests),
        ]


async def test_an_expired_keep_alive_is_retried_once(serve, key):
    """If the new connection breaks too, the request fails."""
    async with serve(in_turn(OK, (Fin(),), (Fin(),), OK)) as (upstream, client):
        await client.send("POST", "x", key=key, request_id="r", body=BODY)
        assert Reason.UPSTREAM_RESET == (await failure_of_send(client, key)).reason
        assert 3 == len(upstream.request_log.requests)


@pytest.mark.parametrize("end", [Fin(), Reset()])
@pytest.mark.parametrize("start", [b"H", b"HTTP/1.1 200 OK\r\nContent-Le"])
async def test_broken_in_the_head_of_a_response_on_a_reused_connection(serve, key, end, start):
    """After one byte of a response the request is not sent again: the upstream has processed it."""
    async with serve(in_turn(OK, (Send(start), end), OK)) as (upstream, client):
        await client.send("POST", "x", key=key, request_id="r", body=BODY)
        failed = await failure_of_send(client, key)
        assert failed.reason in {Reason.UPSTREAM_RESET, Reason.UPSTREAM_MALFORMED_RESPONSE}
        assert 2 == len(upstream.request_log.requests)


(FIRST,) = json_response(200, {"for": "first"})
(FOREIGN,) = json_response(200, {"for": "nobody"})


async def test_a_second_response_behind_the_first_closes_the_connection(serve, key):
    """The second response must not become the response to the next request."""
    both = (Send(FIRST.data + FOREIGN.data),)
    async with serve(in_turn(both, json_response(200, {"for": "second"}))) as (upstream, client):
        assert b'{"for": "first"}' == (await client.send("GET", "x", key=key, request_id="r")).body
        await upstream.closed(0)
        assert b'{"for": "second"}' == (await client.send("GET", "x", key=key, request_id="r")).body


@pytest.mark.parametrize("sent", [FOREIGN.data, FOREIGN.data[:20]], ids=["a response", "a part of one"])
async def test_bytes_on_an_idle_connection_close_it(serve, key, sent):
    """Bytes that arrive on an idle connection belong to no request."""
    read = asyncio.Event()
    async with serve(
        in_turn((FIRST, Pause(read), Send(sent)), json_response(200, {"for": "second"}))
    ) as pair:
        upstream, client = pair
        assert b'{"for": "first"}' == (await client.send("GET", "x", key=key, request_id="r")).body
        read.set()
        await upstream.closed(0)
        assert b'{"for": "second"}' == (await client.send("GET", "x", key=key, request_id="r")).body


async def test_unrequested_bytes_at_the_end_of_a_body(serve, key):
    """Bytes in the same read as the end of a response close the connection too."""
    go = asyncio.Event()
    first = (Send(sse_head() + chunk(b"1")), Pause(go), Send(chunk(b"2") + chunk(b"") + FOREIGN.data))
    async with serve(in_turn(first, json_response(200, {"for": "second"}))) as (_upstream, client):
        async with streaming(client, key) as got:
            assert b"1" == await got.read()
            go.set()
            assert b"2" == await got.read()
        assert b'{"for": "second"}' == (await client.send("GET", "x", key=key, request_id="r")).body


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
async def test_bytes_that_are_not_http_behind_a_response_do_not_delay_its_end(serve, key, connection):
    """The reader receives the complete response at once, and the connection is not reused."""
    go = asyncio.Event()
    headers = {"Content-Length": 2, "Connection": connection}
    first = (Send(head(200, headers) + b"1"), Pause(go), Send(b"2" + b"no response\r\n"), Stall())
    async with serve(in_turn(first, json_response(200, {"for": "second"}))) as (_upstream, client):
        async with streaming(client, key) as got:
            assert b"1" == await got.read()
            go.set()
            async with asyncio.timeout(5.0):
                assert (b"2", b"") == (await got.read(), await got.read())
        assert b'{"for": "second"}' == (await client.send("GET", "x", key=key, request_id="r")).body


@pytest.mark.parametrize("end", [Fin(), Reset()])
async def test_a_crash_during_a_request_is_not_an_expired_keep_alive(key, end):
    """After more than a round trip the request is not sent again: generated tokens are billed."""
    now_s = [0.0]

    def script(request):
        if len(upstream.request_log.requests) == 1:
            return OK
        now_s[0] += KEEPALIVE_RACE_S + 0.1  # between the request and its response
        return (end,)

    async with ScriptedUpstream(script) as upstream:
        pool = ConnectionPool(UpstreamLimits(), tls=ssl.create_default_context, now_s=lambda: now_s[0])
        client = UpstreamClient(pool, base_url=upstream.base_url, limits=UpstreamLimits(), user_agent="t/1")
        await client.send("POST", "x", key=key, request_id="r", body=BODY)
        assert Reason.UPSTREAM_RESET == (await failure_of_send(client, key)).reason
        await client.aclose()
        assert 2 == len(upstream.request_log.requests)


async def test_a_response_to_half_a_request_closes_the_connection(serve, key):
    """The upstream would read the next request as the rest of the body that was not sent."""
    rejected = asyncio.Event()
    # Before it has read the request, the upstream sends a response and continues to read.
    (early,) = json_response(413, {"for": "first"})
    before_reading = (StopReading(), Pause(rejected), early, StartReading())
    responses = always(json_response(200, {"for": "second"}))
    async with serve(responses, on_connect=before_reading) as (upstream, client):
        first = asyncio.create_task(client.send("POST", "x", key=key, request_id="r", body=bytes(30 * 2**20)))
        await upstream.accepted()
        await asyncio.sleep(0.1)  # until the kernel's buffers are full
        upstream.on_connect = ()  # for the second connection
        rejected.set()
        assert (413, b'{"for": "first"}') == ((got := await first).status, got.body)
        async with asyncio.timeout(5.0):
            second = await client.send("POST", "x", key=key, request_id="r", body=BODY)
        assert b'{"for": "second"}' == second.body
        assert [1] == [request.connection for request in upstream.request_log.requests]


async def test_an_old_connection_is_not_reused(serve, key):
    """A connection beyond `max_connection_age_s` is not reused, so that changed addresses are followed."""
    limits = UpstreamLimits(max_connection_age_s=0.0)
    async with serve(always(OK), limits=limits) as (upstream, client):
        for _ in range(2):
            await client.send("GET", "x", key=key, request_id="r")
        assert [0, 1] == [request.connection for request in upstream.request_log.requests]


async def test_a_connection_is_reused(serve, key):
    """Unary responses and streams read to their end return their connection to the pool."""
    async with serve(in_turn(json_response(200, {}), sse(["1"]), json_response(200, {}))) as (
        upstream,
        client,
    ):
        await client.send("POST", "x", key=key, request_id="r", body=b"{}")
        async with streaming(client, key, body=b"{}") as got:
            assert b"data: 1\n\n" == await got.read_all()
        await client.send("GET", "models", key=key, request_id="r")
        assert [0, 0, 0] == [request.connection for request in upstream.request_log.requests]


async def test_a_closed_stream_does_not_read_the_next_response(serve, key):
    """Its connection may have another request by now, whose response belongs to another call."""
    async with serve(in_turn(sse(["1"]), json_response(200, {"for": "second"}))) as (_upstream, client):
        async with streaming(client, key, body=b"{}") as first:
            await first.read_all()
        async with streaming(client, key, body=b"{}") as second:
            with pytest.raises(RuntimeError):
                await first.read()
            assert b'{"for": "second"}' == await second.read_all()


async def test_a_stream_left_at_its_end_mark_returns_its_connection(serve, key):
    """If HTTP's own end arrived together with `[DONE]`, the connection is reused."""
    complete = (Send(sse_head() + chunk(b"data: [DONE]\n\n") + chunk(b"")),)
    async with serve(always(complete)) as (upstream, client):
        for _ in range(2):
            async with streaming(client, key, body=b"{}") as got:
                assert b"data: [DONE]\n\n" == await got.read()
        assert [0, 0] == [request.connection for request in upstream.request_log.requests]


async def test_finish_waits_for_the_end_of_http(serve, key):
    """If the last chunk arrives a moment later, the connection is still reused."""
    script = (Send(sse_head() + chunk(b"data: [DONE]\n\n")), Pause(0.01), Send(chunk(b"")))
    async with serve(always(script)) as (upstream, client):
        for _ in range(2):
            async with streaming(client, key, body=b"{}") as got:
                await got.read()
                await got.finish(within_s=5.0)
        assert [0, 0] == [request.connection for request in upstream.request_log.requests]
