"""Requests through an egress proxy: tunnels, forwarding, SOCKS, and proxies that misbehave."""

import asyncio
import base64
import time

import pytest

from support.egress_proxy import HttpProxy, SocksProxy
from support.scripted_upstream import ScriptedUpstream, always, in_turn
from support.transport_calls import BODY, failure_of_send, streaming
from support.upstream_script import Reset, Send, Stall, chunk, head, json_response, sse_head
from togetherchat_server.config import ProviderConfig
from togetherchat_server.config.proxy import Proxy
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.upstream import proxy_connect
from togetherchat_server.upstream.client import UpstreamClient, UpstreamLimits

OK = json_response(200, {"id": "1"})
GUARANTEED_S = 0.25
PASSWORD = "pa ss/word"
IN_A_STREAM = (Send(sse_head() + chunk(b"data: 1\n\n")), Stall())
STALLS = (Stall(),)


@pytest.fixture
def through(certificate, monkeypatch):
    """Open a client to a TLS provider of the name `localhost` through a proxy."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate_file))
    clients = []

    def client(upstream, proxy, *, connect_timeout_s=20.0):
        opened = UpstreamClient.connect(
            ProviderConfig(base_url=upstream.base_url, key=None, proxy=proxy),
            limits=UpstreamLimits(connect_timeout_s=connect_timeout_s),
            user_agent="upstream-tests/1",
        )
        clients.append(opened)
        return opened

    return client


@pytest.fixture
def provider(certificate):
    """A scripted provider that serves TLS."""

    def serve(script):
        return ScriptedUpstream(script, tls=certificate.server_context(), host="localhost")

    return serve


def proxies(certificate, scheme, port):
    """A well-behaved proxy of a scheme."""
    if scheme == "socks5":
        return SocksProxy(port=port, credentials=("user", PASSWORD))
    tls = certificate.server_context() if scheme == "https" else None
    return HttpProxy(port=port, scheme=scheme, tls=tls, host="localhost" if tls else "127.0.0.1")


SCHEMES = pytest.mark.parametrize("scheme", ["http", "https", "socks5"])


@SCHEMES
async def test_requests_travel_through_one_tunnel(through, provider, certificate, scheme, key):
    """The connection is reused, and the proxy sees neither the provider's key nor the request."""
    async with provider(always(OK)) as upstream, proxies(certificate, scheme, upstream.port) as proxy:
        client = through(upstream, proxy.address(user="user", password=PASSWORD))
        for _ in range(3):
            assert 200 == (await client.send("POST", "x", key=key, request_id="r", body=BODY)).status
        await client.aclose()

    assert [f"localhost:{upstream.port}"] == proxy.targets
    assert [0, 0, 0] == [request.connection for request in upstream.request_log.requests]
    assert {f"Bearer {key.reveal()}"} == {
        request.headers["authorization"] for request in upstream.request_log.requests
    }
    if scheme != "socks5":
        pair = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
        lines = (
            f"CONNECT {proxy.targets[0]} HTTP/1.1",
            f"Host: {proxy.targets[0]}",
            f"Proxy-Authorization: Basic {pair}",
        )
        assert ["\r\n".join(lines) + "\r\n\r\n"] == proxy.heads
        assert not any("proxy-authorization" in request.headers for request in upstream.request_log.requests)


@SCHEMES
async def test_a_cancelled_stream_closes_the_tunnel(through, provider, certificate, scheme, key):
    """The provider sees the end of its connection within 250 ms."""
    async with (
        provider(always(IN_A_STREAM)) as upstream,
        proxies(certificate, scheme, upstream.port) as proxy,
    ):
        client = through(upstream, proxy.address(user="user", password=PASSWORD))
        async with streaming(client, key) as stream:
            assert b"data: 1" in await stream.read()
        left_at = time.monotonic()
        assert await upstream.closed(0) - left_at < GUARANTEED_S
        await proxy.until(lambda seen: not seen.open_tunnels)


@SCHEMES
async def test_a_tunnel_that_breaks_ends_the_stream(through, provider, certificate, scheme, key):
    """What was received before is read first, and the next request opens a new tunnel."""
    async with (
        provider(in_turn(IN_A_STREAM, OK)) as upstream,
        proxies(certificate, scheme, upstream.port) as proxy,
    ):
        client = through(upstream, proxy.address(user="user", password=PASSWORD))
        async with streaming(client, key) as stream:
            assert b"data: 1" in await stream.read()
            await proxy.cut()
            with pytest.raises(ServiceError) as caught:
                await stream.read()
        assert Reason.UPSTREAM_TRUNCATED == caught.value.reason
        assert 200 == (await client.send("GET", "x", key=key, request_id="r")).status
        await client.aclose()


@SCHEMES
async def test_a_certificate_of_another_name_is_rejected_through_a_tunnel(
    through, provider, certificate, scheme, key
):
    """A proxy that reads the traffic cannot pose as the provider."""
    async with provider(always(OK)) as upstream, proxies(certificate, scheme, upstream.port) as proxy:
        upstream.base_url = upstream.base_url.replace("localhost", "provider.example")
        client = through(upstream, proxy.address(user="user", password=PASSWORD))
        failure = await failure_of_send(client, key)

    assert [f"provider.example:{upstream.port}"] == proxy.targets
    assert Reason.UPSTREAM_TLS_FAILED == failure.reason
    assert [] == upstream.request_log.requests


async def test_requests_without_tls_are_forwarded(through, key):
    """As proxies expect it: the whole URL in the request line, and the credentials in each request."""
    async with ScriptedUpstream(always(OK)) as upstream, HttpProxy(port=upstream.port) as proxy:
        upstream.base_url = "http://provider.example/v1"
        client = through(upstream, proxy.address(user="user", password="pw"))
        for _ in range(2):
            assert 200 == (await client.send("POST", "x", key=key, request_id="r", body=BODY)).status
        await client.aclose()
        first, second = upstream.request_log.requests

    assert ["http://provider.example/v1/x"] == proxy.targets
    assert "provider.example" == first.headers["host"]
    assert "Basic dXNlcjpwdw==" == second.headers["proxy-authorization"]
    assert (0, "http://provider.example/v1/x") == (second.connection, second.path)


async def test_a_forwarding_proxy_that_rejects_the_credentials(through, key):
    """A 407 is the proxy's, whatever the provider is, and its text is not quoted."""
    rejection = (Send(head(407, {"Content-Length": 6}) + b"denied"),)
    async with ScriptedUpstream(always(rejection)) as upstream, HttpProxy(port=upstream.port) as proxy:
        upstream.base_url = "http://provider.example/v1"
        failure = await failure_of_send(through(upstream, proxy.address()), key)

    assert (Reason.UPSTREAM_CONNECT_FAILED, proxy_connect.REJECTS_CREDENTIALS) == (
        failure.reason,
        failure.message,
    )


ANSWERS = {
    "credentials": (
        b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 3\r\n\r\nno!",
        proxy_connect.REJECTS_CREDENTIALS,
    ),
    "credentials, as tinyproxy": (
        b"HTTP/1.0 401 Unauthorized\r\nServer: tinyproxy/1.11.1\r\nContent-Type: text/html\r\n\r\n",
        proxy_connect.REJECTS_CREDENTIALS,
    ),
    "forbidden": (b"HTTP/1.1 403 Forbidden\r\n\r\n<html>secret</html>", proxy_connect.REJECTS_PROVIDER),
    "no route": (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", proxy_connect.CANNOT_CONNECT),
    "bad gateway": (b"HTTP/1.0 502 Bad Gateway\r\nX-Squid-Error: ERR\r\n\r\n", proxy_connect.CANNOT_CONNECT),
    "redirect": (b"HTTP/1.1 302 Found\r\nLocation: http://login/\r\n\r\n", proxy_connect.CANNOT_CONNECT),
    "not HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", proxy_connect.UNREADABLE),
    "another protocol": (b"HTTP/2 200\r\n\r\n", proxy_connect.UNREADABLE),
    "an endless head": (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 4000, proxy_connect.UNREADABLE),
    "bytes behind the head": (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n", proxy_connect.UNREADABLE),
}


@pytest.mark.parametrize(("answer", "message"), ANSWERS.values(), ids=ANSWERS)
async def test_a_proxy_that_gives_no_tunnel(through, provider, key, answer, message):
    """Nothing reaches the provider, the proxy's text is not quoted, and the connection is closed."""
    async with provider(always(OK)) as upstream, HttpProxy(port=upstream.port, answer=answer) as proxy:
        failure = await failure_of_send(through(upstream, proxy.address()), key)
        await proxy.until(lambda seen: not seen.open_tunnels and not seen._tasks)

    assert (Reason.UPSTREAM_CONNECT_FAILED, message) == (failure.reason, failure.message)
    assert [] == upstream.request_log.requests


@pytest.mark.parametrize(
    ("answer", "message"),
    [(b"", proxy_connect.CANNOT_CONNECT), (b"HTTP/1.1 200 Conn", proxy_connect.UNREADABLE)],
    ids=["before the response", "in the response"],
)
async def test_a_proxy_that_closes_the_connection(through, provider, key, answer, message):
    async with (
        provider(always(OK)) as upstream,
        HttpProxy(port=upstream.port, answer=answer, close_after_answer=True) as proxy,
    ):
        failure = await failure_of_send(through(upstream, proxy.address()), key)

    assert (Reason.UPSTREAM_CONNECT_FAILED, message) == (failure.reason, failure.message)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 Connection established\r\nProxy-agent: tinyproxy/1.11\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 \r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 200 OK\n\n",
    ],
)
async def test_forms_of_success(through, provider, key, answer):
    """A body cannot follow a successful CONNECT, whatever its headers say (RFC 9110, 9.3.6)."""
    async with provider(always(OK)) as upstream, HttpProxy(port=upstream.port, answer=answer) as proxy:
        client = through(upstream, proxy.address())
        assert 200 == (await client.send("GET", "x", key=key, request_id="r")).status
        await client.aclose()


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_a_proxy_that_never_responds(through, provider, key, kind):
    """The connect timeout covers the proxy too, and a cancel ends the wait."""
    async with provider(always(OK)) as upstream:
        silent = (
            HttpProxy(port=upstream.port, answer=None)
            if kind == "http"
            else SocksProxy(port=upstream.port, reply=None)
        )
        async with silent as proxy:
            failure = await failure_of_send(through(upstream, proxy.address(), connect_timeout_s=0.2), key)
            assert Reason.UPSTREAM_CONNECT_TIMEOUT == failure.reason
            await proxy.until(lambda seen: not seen._tasks)

            client = through(upstream, proxy.address())
            task = asyncio.ensure_future(client.send("GET", "x", key=key, request_id="r"))
            await proxy.until(lambda seen: 2 == len(seen.targets))
            cancelled_at = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await proxy.until(lambda seen: not seen._tasks)
            assert time.monotonic() - cancelled_at < GUARANTEED_S


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
async def test_a_proxy_that_is_away(through, provider, key, scheme):
    """A name that does not exist and a port at which nothing listens."""
    async with provider(always(OK)) as upstream, HttpProxy(port=upstream.port) as gone:
        pass
    for host, port in (("127.0.0.1", gone.listens_on), ("proxy.invalid", 3128)):
        failure = await failure_of_send(through(upstream, Proxy(scheme=scheme, host=host, port=port)), key)
        assert (Reason.UPSTREAM_CONNECT_FAILED, proxy_connect.UNREACHABLE) == (
            failure.reason,
            failure.message,
        )


async def test_a_proxy_without_a_trusted_certificate(provider, certificate, key):
    """The authorities that are trusted for the provider are those for the proxy."""
    async with (
        provider(always(OK)) as upstream,
        HttpProxy(port=upstream.port, scheme="https", tls=certificate.server_context()) as proxy,
    ):
        client = UpstreamClient.connect(
            ProviderConfig(base_url=upstream.base_url, key=None, proxy=proxy.address()),
            limits=UpstreamLimits(),
            user_agent="upstream-tests/1",
        )
        failure = await failure_of_send(client, key)

    assert Reason.UPSTREAM_TLS_FAILED == failure.reason
    assert "the egress proxy" in failure.message
    assert [] == proxy.heads


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reply": 2}, proxy_connect.REJECTS_PROVIDER),
        ({"reply": 1}, proxy_connect.CANNOT_CONNECT),
        ({"reply": 5}, proxy_connect.CANNOT_CONNECT),
        ({"reply": 77}, proxy_connect.CANNOT_CONNECT),
        ({"credentials": ("user", "another")}, proxy_connect.CANNOT_CONNECT),
    ],
)
async def test_a_socks_proxy_that_gives_no_connection(through, provider, key, options, message):
    async with provider(always(OK)) as upstream, SocksProxy(port=upstream.port, **options) as proxy:
        failure = await failure_of_send(through(upstream, proxy.address(user="user", password=PASSWORD)), key)
        await proxy.until(lambda seen: not seen._tasks)

    assert (Reason.UPSTREAM_CONNECT_FAILED, message) == (failure.reason, failure.message)


@SCHEMES
async def test_churn_through_a_proxy_leaves_nothing_behind(through, provider, certificate, scheme, key):
    """Cancels in every phase of the connection leave no tunnel and no slot taken."""
    scripts = [STALLS, IN_A_STREAM, OK, (Reset(),)]
    async with (
        provider(lambda request: scripts[int(request.headers["x-request-id"]) % 4]) as upstream,
        proxies(certificate, scheme, upstream.port) as proxy,
    ):
        client = through(upstream, proxy.address(user="user", password=PASSWORD))

        async def churn(number):
            task = asyncio.ensure_future(client.send("GET", "x", key=key, request_id=str(number)))
            for _ in range(number * 3):
                await asyncio.sleep(0)
            await asyncio.sleep(number % 7 / 500)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        for start in range(0, 60, 12):
            await asyncio.gather(*map(churn, range(start, start + 12)))
        assert 200 == (await client.send("GET", "x", key=key, request_id="2")).status
        assert {0} == {int(read()) for (name, *_), read in client.gauges.items() if "in_flight" in name}
        await client.aclose()
        await proxy.until(lambda seen: not seen._tasks)
        await upstream.until(lambda log: not log.still_open)
