"""What a request contains, and how valid responses are returned."""

import asyncio
import sys
from contextlib import aclosing

import pytest

from support.scripted_upstream import ScriptedUpstream, always
from support.transport_calls import streaming
from support.upstream_script import (
    Fin,
    Pause,
    Send,
    chunk,
    head,
    html_response,
    http_response,
    json_response,
    sse,
    sse_head,
)
from togetherchat_server.upstream.client import UpstreamResponse


async def test_a_request_contains_what_the_provider_needs_and_nothing_else(serve, key):
    """A request contains the key, an explicit User-Agent, the id and the trace, and requests no compression."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with serve(always(json_response(200, {}))) as (upstream, client):
        await client.send(
            "POST", "chat/completions", key=key, request_id="r-1", body=b"{}", traceparent=trace
        )
        (request,) = upstream.request_log.requests
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


async def test_a_request_without_body_key_and_trace_contains_none(serve):
    """A local engine needs no key, a GET has no body, and an invalid trace is left out."""
    async with serve(always(json_response(200, []))) as (upstream, client):
        await client.send("GET", "models", key=None, request_id="r-1", traceparent="no\r\ntrace: x")
        (request,) = upstream.request_log.requests
    assert ("GET", "/v1/models", b"") == (request.method, request.path, request.body)
    assert set(request.headers).isdisjoint({"authorization", "content-type", "traceparent", "trace"})


async def test_a_response_keeps_status_headers_and_body(serve, key):
    """Header names are lower case, and repeated headers are joined."""
    twice = {"X-Thing": "a", "x-thing": "b", "CF-RAY": "1-FRA"}
    async with serve(always(http_response(429, b"slow", twice))) as (_upstream, client):
        got = await client.send("POST", "x", key=key, request_id="r", body=b"{}")
    expected = UpstreamResponse(
        status=429, headers={"content-length": "4", "x-thing": "a, b", "cf-ray": "1-FRA"}, body=b"slow"
    )
    assert expected == got


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(serve, key, status):
    """A redirect is returned as a response; the key is sent to no other server."""
    async with ScriptedUpstream(always(json_response(200, {}))) as elsewhere:
        redirect = http_response(status, b"", {"Location": f"{elsewhere.base_url}/x"})
        async with serve(always(redirect)) as (_upstream, client):
            got = await client.send("POST", "x", key=key, request_id="r", body=b"{}")
        assert status == got.status
        assert [] == elsewhere.request_log.connections


async def test_cookies_are_not_kept(serve, key):
    """A cookie from one response is not sent with the next request."""
    sets = json_response(200, {}, {"Set-Cookie": "session=1; Path=/"})
    async with serve(always(sets)) as (upstream, client):
        for _ in range(2):
            await client.send("POST", "x", key=key, request_id="r", body=b"{}")
        assert ["cookie" in request.headers for request in upstream.request_log.requests] == [False, False]


async def test_the_environment_sets_no_proxy_and_no_password(serve, key, monkeypatch, tmp_path):
    """Proxy variables and a netrc file do not change where or with which credentials a request is sent."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login someone password other")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with serve(always(json_response(200, {}))) as (upstream, client):
        await client.send("POST", "x", key=None, request_id="r", body=b"{}")
        (request,) = upstream.request_log.requests
    assert "authorization" not in request.headers


async def test_a_large_body_arrives_complete(serve, key):
    """A body larger than the kernel's buffers arrives complete."""
    body = b"0123456789abcdef" * 2**18
    async with serve(always(json_response(200, {}))) as (upstream, client):
        await client.send("POST", "x", key=key, request_id="r", body=body)
        (request,) = upstream.request_log.requests
    assert body == request.body


async def test_informational_responses_are_skipped(serve, key):
    """A 103 is not returned; the response behind it is."""
    early = (Send(head(103, {"Link": "</x>"})), *json_response(200, {"id": "1"}))
    async with serve(always(early)) as (_upstream, client):
        got = await client.send("POST", "x", key=key, request_id="r", body=b"{}")
    assert (200, b'{"id": "1"}') == (got.status, got.body)


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_stream_arrives_byte_for_byte_and_ends(serve, key, chunked):
    """With and without chunked coding, every read after the end returns `b""`."""
    async with (
        serve(always(sse(["1", "2", "[DONE]"], chunked=chunked))) as (_upstream, client),
        streaming(client, key, body=b"{}") as got,
    ):
        assert (200, "text/event-stream") == (got.status, got.headers["content-type"])
        read = b""
        while piece := await got.read():
            read += piece
        assert b"" == await got.read()
    assert b"data: 1\n\ndata: 2\n\ndata: [DONE]\n\n" == read


async def test_each_read_returns_what_has_arrived(serve, key):
    """A read does not wait for the rest of the response; bytes that accumulated are returned at once."""
    more = asyncio.Event()
    script = (
        Send(sse_head() + chunk(b"data: 1\n\n")),
        Pause(more),
        Send(chunk(b"data: 2\n\n") + chunk(b"data: 3\n\n") + chunk(b"")),
    )
    async with (
        serve(always(script)) as (_upstream, client),
        streaming(client, key, body=b"{}") as got,
    ):
        assert b"data: 1\n\n" == await got.read()
        more.set()
        assert b"data: 2\n\ndata: 3\n\n" == await got.read()


async def test_a_unary_response_to_a_stream_request_can_be_read(serve, key):
    """An error, or the response of an upstream that does not stream, can be read to its end."""
    async with (
        serve(always(html_response(502, "<h1>Bad gateway</h1>"))) as (_upstream, client),
        streaming(client, key, body=b"{}") as got,
    ):
        assert (502, b"<h1>Bad gateway</h1>") == (got.status, await got.read_all())


async def test_a_slow_reader_loses_nothing_when_the_connection_ends(serve, key):
    """A response and its FIN that arrive before they are read are returned completely."""
    body = bytes(range(256)) * 8192
    script = (Send(sse_head()), *(Send(chunk(body[at : at + 32_768])) for at in range(0, len(body), 32_768)))
    async with (
        serve(always((*script, Send(chunk(b"")), Fin()))) as (_upstream, client),
        streaming(client, key, body=b"{}") as got,
    ):
        read = b""
        while piece := await got.read():
            read += piece
            await asyncio.sleep(0)
    assert body == read


async def test_an_open_stream_does_not_keep_its_prompt(serve, key):
    """Ten thousand streams with long prompts would keep a gigabyte of memory in use."""
    prompt = b"{" + b" " * 100_000 + b"}"
    go = asyncio.Event()
    streamed = (Send(sse_head()), Send(chunk(b"data: 1\n\n")), Pause(go), Send(chunk(b"")))
    async with serve(always(streamed)) as (_upstream, client):
        references = sys.getrefcount(prompt)
        # Not with `streaming`: its own frame keeps the prompt.
        got = await client.open_stream("x", key=key, request_id="r", body=prompt)
        async with aclosing(got):
            assert b"data: 1\n\n" == await got.read()
            assert references == sys.getrefcount(prompt)
            go.set()
            assert b"" == await got.read()
