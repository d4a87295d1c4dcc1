"""When a connection is used again, when it is not, and when a request is sent again."""

import asyncio
import ssl

import pytest

from support.scripted_upstream import ScriptedUpstream, always, in_turn
from support.transport_calls import BODY, failure_of_send
from support.upstream_script import Fin, Pause, Reset, Send, chunk, json_answer, sse, sse_head
from togetherchat_server.domain.reasons import Reason
from togetherchat_server.upstream.client import UpstreamClient, UpstreamLimits
from togetherchat_server.upstream.http1 import KEEPALIVE_RACE_S
from togetherchat_server.upstream.pool import ConnectionPool

OK = json_answer(200, {"id": "1"})


@pytest.mark.parametrize("end", [Fin(), Reset()])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_keep_alive_that_ran_out(serve, key, end, method):
    """A reused connection that closes at once without a byte: sent again, over a fresh one, and answered."""
    async with serve(in_turn(OK, (end,), OK)) as (upstream, transport):
        for _ in range(2):
            body = BODY if method == "POST" else None
            assert 200 == (await transport.send(method, "x", key=key, request_id="r", body=body)).status
        assert [0, 0, 1] == [request.connection for request in upstream.ledger.requests]
        assert 1 == len({request.body for request in upstream.ledger.requests})


async def test_a_request_is_not_sent_again_over_another_connection_of_the_pool(serve, key):
    """Where one keep-alive has run out, so may have the others, and the second sending is the last."""
    both = asyncio.Event()

    def script(request):
        first = request is upstream.ledger.connections[request.connection].requests[0]
        return (Pause(both), *OK) if first and request.connection < 2 else OK if first else (Reset(),)

    async with serve(script) as (upstream, transport):
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(transport.send("POST", "x", key=key, request_id="r", body=BODY))
            await upstream.asked(2)
            both.set()
        assert 200 == (await transport.send("POST", "x", key=key, request_id="r", body=BODY)).status
        assert [2, 1] == [
            upstream.ledger.requests[-1].connection,
            len(upstream.ledger.connections[2].requests),
        ]


async def test_a_keep_alive_that_ran_out_is_forgiven_once(serve, key):
    """The second sending breaks too: a fresh connection has no such excuse."""
    async with serve(in_turn(OK, (Fin(),), (Fin(),), OK)) as (upstream, transport):
        await transport.send("POST", "x", key=key, request_id="r", body=BODY)
        assert Reason.UPSTREAM_RESET == (await failure_of_send(transport, key)).reason
        assert 3 == len(upstream.ledger.requests)


@pytest.mark.parametrize("end", [Fin(), Reset()])
@pytest.mark.parametrize("begun", [b"H", b"HTTP/1.1 200 OK\r\nContent-Le"])
async def test_broken_in_the_head_of_an_answer_on_a_reused_connection(serve, key, end, begun):
    """One byte of an answer is enough: the request was looked at, and is not sent again."""
    async with serve(in_turn(OK, (Send(begun), end), OK)) as (upstream, transport):
        await transport.send("POST", "x", key=key, request_id="r", body=BODY)
        failed = await failure_of_send(transport, key)
        assert failed.reason in {Reason.UPSTREAM_RESET, Reason.UPSTREAM_MALFORMED_RESPONSE}
        assert 2 == len(upstream.ledger.requests)


(FIRST,) = json_answer(200, {"for": "first"})
(FOREIGN,) = json_answer(200, {"for": "nobody"})


async def test_a_second_answer_behind_the_first_ends_the_connection(serve, key):
    """It must not become the answer to the next request."""
    both = (Send(FIRST.data + FOREIGN.data),)
    async with serve(in_turn(both, json_answer(200, {"for": "second"}))) as (upstream, transport):
        assert b'{"for": "first"}' == (await transport.send("GET", "x", key=key, request_id="r")).body
        await upstream.closed(0)
        assert b'{"for": "second"}' == (await transport.send("GET", "x", key=key, request_id="r")).body


@pytest.mark.parametrize("sent", [FOREIGN.data, FOREIGN.data[:20]], ids=["an answer", "a part of one"])
async def test_bytes_that_nobody_asked_for_end_the_connection(serve, key, sent):
    """Whatever comes while a connection rests is nobody's."""
    read = asyncio.Event()
    async with serve(
        in_turn((FIRST, Pause(read), Send(sent)), json_answer(200, {"for": "second"}))
    ) as between:
        upstream, transport = between
        assert b'{"for": "first"}' == (await transport.send("GET", "x", key=key, request_id="r")).body
        read.set()
        await upstream.closed(0)
        assert b'{"for": "second"}' == (await transport.send("GET", "x", key=key, request_id="r")).body


async def test_bytes_that_nobody_asked_for_at_the_end_of_a_body(serve, key):
    """The same, where the end of the first answer and the foreign one come in one read."""
    go = asyncio.Event()
    first = (Send(sse_head() + chunk(b"1")), Pause(go), Send(chunk(b"2") + chunk(b"") + FOREIGN.data))
    async with serve(in_turn(first, json_answer(200, {"for": "second"}))) as (_upstream, transport):
        async with transport.stream("x", key=key, request_id="r", body=BODY) as got:
            assert b"1" == await got.read()
            go.set()
            assert b"2" == await got.read()
        assert b'{"for": "second"}' == (await transport.send("GET", "x", key=key, request_id="r")).body


@pytest.mark.parametrize("end", [Fin(), Reset()])
async def test_an_upstream_that_dies_over_a_request_is_no_keep_alive_that_ran_out(key, end):
    """Later than a round trip: the tokens it had made are paid for, so it is not asked again."""
    now_s = [0.0]

    def script(request):
        if len(upstream.ledger.requests) == 1:
            return OK
        now_s[0] += KEEPALIVE_RACE_S + 0.1  # while the request is there, and before its answer
        return (end,)

    async with ScriptedUpstream(script) as upstream:
        engine = ConnectionPool(UpstreamLimits(), tls=ssl.create_default_context(), now_s=lambda: now_s[0])
        transport = UpstreamClient(
            engine, base_url=upstream.base_url, limits=UpstreamLimits(), user_agent="t/1"
        )
        await transport.send("POST", "x", key=key, request_id="r", body=BODY)
        assert Reason.UPSTREAM_RESET == (await failure_of_send(transport, key)).reason
        await transport.aclose()
        assert 2 == len(upstream.ledger.requests)


async def test_an_old_connection_takes_no_further_request(serve, key):
    """So that a change of addresses is followed."""
    limits = UpstreamLimits(max_connection_age_s=0.0)
    async with serve(always(OK), limits=limits) as (upstream, transport):
        for _ in range(2):
            await transport.send("GET", "x", key=key, request_id="r")
        assert [0, 1] == [request.connection for request in upstream.ledger.requests]


async def test_a_connection_serves_one_request_after_the_other(serve, key):
    """Whole answers and streams read to their end give their connection back."""
    async with serve(in_turn(json_answer(200, {}), sse(["1"]), json_answer(200, {}))) as (
        upstream,
        transport,
    ):
        await transport.send("POST", "x", key=key, request_id="r", body=b"{}")
        async with transport.stream("x", key=key, request_id="r", body=b"{}") as got:
            assert b"data: 1\n\n" == await got.read_all()
        await transport.send("GET", "models", key=key, request_id="r")
        assert [0, 0, 0] == [request.connection for request in upstream.ledger.requests]


async def test_a_stream_left_at_its_end_mark_gives_its_connection_back(serve, key):
    """When HTTP's own end came with the read of `[DONE]`, nothing is left to wait for."""
    whole = (Send(sse_head() + chunk(b"data: [DONE]\n\n") + chunk(b"")),)
    async with serve(always(whole)) as (upstream, transport):
        for _ in range(2):
            async with transport.stream("x", key=key, request_id="r", body=b"{}") as got:
                assert b"data: [DONE]\n\n" == await got.read()
        assert [0, 0] == [request.connection for request in upstream.ledger.requests]


async def test_finish_waits_for_the_end_of_http(serve, key):
    """The last chunk a moment later: the connection is kept all the same."""
    script = (Send(sse_head() + chunk(b"data: [DONE]\n\n")), Pause(0.01), Send(chunk(b"")))
    async with serve(always(script)) as (upstream, transport):
        for _ in range(2):
            async with transport.stream("x", key=key, request_id="r", body=b"{}") as got:
                await got.read()
                await got.finish(within_s=5.0)
        assert [0, 0] == [request.connection for request in upstream.ledger.requests]
