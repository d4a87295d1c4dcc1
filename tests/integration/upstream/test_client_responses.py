"""What a request carries, and how a proper answer comes back."""

import asyncio
import sys

import pytest

from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import (
    Fin,
    Pause,
    Send,
    answer,
    chunk,
    head,
    html_answer,
    json_answer,
    sse,
    sse_head,
)
from togetherchat_server.upstream.client import UpstreamResponse


async def test_a_request_carries_what_the_provider_needs_and_nothing_else(serve, key):
    """The key, an explicit User-Agent, the id and the trace; no compression is asked for."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with serve(always(json_answer(200, {}))) as (upstream, transport):
        await transport.send(
            "POST", "chat/completions", key=key, request_id="r-1", body=b"{}", traceparent=trace
        )
        (request,) = upstream.ledger.requests
    assert ("POST", "/v1/chat/completions", b"{}") == (request.method, request.path, request.body)
    expected = {
        "host": f"127.0.0.1:{upstream.port}",
        "user-agent": "upstream-tests/1",
        "accept": "application/json",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": "2",
        "authorization": f"Bearer {key.reveal()}",
        "x-request-id": "r-1",
        "traceparent": trace,
    }
    assert expected == request.headers


async def test_a_request_without_body_key_and_trace_carries_none(serve):
    """A local engine needs no key, a list has no body, and a trace that is none is left out."""
    async with serve(always(json_answer(200, []))) as (upstream, transport):
        await transport.send("GET", "models", key=None, request_id="r-1", traceparent="no\r\ntrace: x")
        (request,) = upstream.ledger.requests
    assert ("GET", "/v1/models", b"") == (request.method, request.path, request.body)
    assert set(request.headers).isdisjoint({"authorization", "content-type", "traceparent", "trace"})


async def test_an_answer_keeps_status_headers_and_body(serve, key):
    """Names of headers come in lower case, and those that came twice are joined."""
    twice = {"X-Thing": "a", "x-thing": "b", "CF-RAY": "1-FRA"}
    async with serve(always(answer(429, b"slow", twice))) as (_upstream, transport):
        got = await transport.send("POST", "x", key=key, request_id="r", body=b"{}")
    expected = UpstreamResponse(
        status=429, headers={"content-length": "4", "x-thing": "a, b", "cf-ray": "1-FRA"}, body=b"slow"
    )
    assert expected == got


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(serve, key, status):
    """It is an answer like another; the key goes to nobody else."""
    async with ScriptedUpstream(always(json_answer(200, {}))) as elsewhere:
        leads = answer(status, b"", {"Location": f"{elsewhere.base_url}/x"})
        async with serve(always(leads)) as (_upstream, transport):
            got = await transport.send("POST", "x", key=key, request_id="r", body=b"{}")
        assert status == got.status
        assert [] == elsewhere.ledger.connections


async def test_cookies_are_not_kept(serve, key):
    """One caller's cookie must not travel with the next caller's request."""
    sets = json_answer(200, {}, {"Set-Cookie": "session=1; Path=/"})
    async with serve(always(sets)) as (upstream, transport):
        for _ in range(2):
            await transport.send("POST", "x", key=key, request_id="r", body=b"{}")
        assert ["cookie" in request.headers for request in upstream.ledger.requests] == [False, False]


async def test_the_environment_names_no_proxy_and_no_password(serve, key, monkeypatch, tmp_path):
    """Neither proxy variables nor a netrc file change where a request goes and as whom."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login someone password other")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with serve(always(json_answer(200, {}))) as (upstream, transport):
        await transport.send("POST", "x", key=None, request_id="r", body=b"{}")
        (request,) = upstream.ledger.requests
    assert "authorization" not in request.headers


async def test_a_large_body_arrives_whole(serve, key):
    """More than the kernel takes at once."""
    body = b"0123456789abcdef" * 2**18
    async with serve(always(json_answer(200, {}))) as (upstream, transport):
        await transport.send("POST", "x", key=key, request_id="r", body=body)
        (request,) = upstream.ledger.requests
    assert body == request.body


async def test_informational_answers_are_passed_over(serve, key):
    """A 103 before the answer is not the answer."""
    early = (Send(head(103, {"Link": "</x>"})), *json_answer(200, {"id": "1"}))
    async with serve(always(early)) as (_upstream, transport):
        got = await transport.send("POST", "x", key=key, request_id="r", body=b"{}")
    assert (200, b'{"id": "1"}') == (got.status, got.body)


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_stream_comes_byte_for_byte_and_ends(serve, key, chunked):
    """With chunks and without, and the end is `b""`, again and again."""
    async with (
        serve(always(sse(["1", "2", "[DONE]"], chunked=chunked))) as (_upstream, transport),
        transport.stream("x", key=key, request_id="r", body=b"{}") as got,
    ):
        assert (200, "text/event-stream") == (got.status, got.headers["content-type"])
        read = b""
        while piece := await got.read():
            read += piece
        assert b"" == await got.read()
    assert b"data: 1\n\ndata: 2\n\ndata: [DONE]\n\n" == read


async def test_each_read_brings_what_has_arrived_and_waits_for_nothing(serve, key):
    """A piece is there while the rest of the answer does not exist yet; what piled up comes as one."""
    more = asyncio.Event()
    script = (
        Send(sse_head() + chunk(b"data: 1\n\n")),
        Pause(more),
        Send(chunk(b"data: 2\n\n") + chunk(b"data: 3\n\n") + chunk(b"")),
    )
    async with (
        serve(always(script)) as (_upstream, transport),
        transport.stream("x", key=key, request_id="r", body=b"{}") as got,
    ):
        assert b"data: 1\n\n" == await got.read()
        more.set()
        assert b"data: 2\n\ndata: 3\n\n" == await got.read()


async def test_a_whole_answer_to_a_stream_request_can_be_read(serve, key):
    """An error, or an upstream that does not stream."""
    async with (
        serve(always(html_answer(502, "<h1>Bad gateway</h1>"))) as (_upstream, transport),
        transport.stream("x", key=key, request_id="r", body=b"{}") as got,
    ):
        assert (502, b"<h1>Bad gateway</h1>") == (got.status, await got.read_all())


async def test_a_slow_reader_loses_nothing_to_an_end_that_is_already_there(serve, key):
    """The whole answer and the FIN behind it arrive while nobody reads."""
    body = bytes(range(256)) * 8192
    script = (Send(sse_head()), *(Send(chunk(body[at : at + 32_768])) for at in range(0, len(body), 32_768)))
    async with (
        serve(always((*script, Send(chunk(b"")), Fin()))) as (_upstream, transport),
        transport.stream("x", key=key, request_id="r", body=b"{}") as got,
    ):
        read = b""
        while piece := await got.read():
            read += piece
            await asyncio.sleep(0)
    assert body == read


async def test_a_stream_that_has_begun_holds_its_prompt_no_longer(serve, key):
    """Ten thousand streams with long prompts would hold a gigabyte for nothing."""
    prompt = b"{" + b" " * 100_000 + b"}"
    go = asyncio.Event()
    streamed = (Send(sse_head()), Send(chunk(b"data: 1\n\n")), Pause(go), Send(chunk(b"")))
    async with serve(always(streamed)) as (_upstream, transport):
        held = sys.getrefcount(prompt)
        async with transport.stream("x", key=key, request_id="r", body=prompt) as answer:
            assert b"data: 1\n\n" == await answer.read()
            assert held == sys.getrefcount(prompt)
            go.set()
            assert b"" == await answer.read()
