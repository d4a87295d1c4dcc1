"""What each setting of docs/proxies.md is for: the behavior without it."""

import asyncio
import statistics
import time
from contextlib import asynccontextmanager

import httpx
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from proxies.relay import client_at
from proxies.reverse import Backend, backend_of, chain, without
from proxies.test_grpc import LONG_STATUS
from proxies.test_http import (
    BROKEN,
    COMPLETION,
    ORIGIN,
    broken_stream_over_http_2,
    leave_before_the_response,
    post,
    released_one_by_one,
    streaming,
    text_of,
)
from support.app import failing, request
from support.http2_peer import DATA, END_STREAM
from support.http_client import COMPLETIONS, request_body, running_http
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Pause, Stall
from support.waiting import eventually

LARGE = "x" * 5_000_000
CORKED_S = 0.15
"""Linux sends what a program has marked as incomplete after 0.2 s."""


KEEPALIVE = "server 10.0.0.12:3000;\n        keepalive 64;"


# nginx


async def test_without_client_max_body_size_large_requests_are_rejected(nginx):
    """By default nginx accepts 1 MB."""
    edits = [without("client_max_body_size 32m;")]
    async with chain(nginx, always(COMPLETION), edits=edits) as one:
        body = request_body(messages=[{"role": "user", "content": LARGE}])
        response = await one.front.http.post(COMPLETIONS, json=body)
        failure = await failing(one.front.chat.Complete(request(LARGE)))

    assert 413 == response.status_code
    assert "413" in failure.message


async def test_without_grpc_buffer_size_a_long_status_is_lost(nginx):
    """By default nginx reads headers and trailers of 4 KiB or, with larger memory pages, 8 KiB."""
    edits = [("grpc_buffer_size 16k;", "grpc_buffer_size 4k;")]
    async with chain(nginx, always(LONG_STATUS), edits=edits) as one:
        failure = await failing(one.front.chat.Complete(request()))

    assert "502" in failure.message


async def test_without_http_1_1_a_broken_stream_looks_whole(nginx):
    """Over HTTP/1.0 the end of the connection is the end of the body."""
    edits = [without("proxy_http_version 1.1;")]
    async with chain(nginx, always(BROKEN), edits=edits) as one, streaming(one) as response:
        received = await response.aread()

    assert b'"error"' in received


@pytest.mark.parametrize("setting", ["", 'proxy_set_header Connection "";', KEEPALIVE])
async def test_without_keepalive_each_request_opens_a_connection(nginx, setting):
    """Both settings are needed to keep the connection to the service."""
    edits = [(setting, "server 10.0.0.12:3000;" if setting == KEEPALIVE else "")] if setting else []
    async with chain(nginx, always(COMPLETION), edits=edits) as one:
        await post(one)
        kept = 0 if setting else 1
        await eventually(lambda: kept == one.service.app.http_server.connections)


async def test_without_the_host_own_pages_are_rejected(nginx):
    """By default nginx sends the name of its upstream block as `Host`."""
    edits = [without("proxy_set_header Host $http_host;")]
    async with chain(nginx, always(COMPLETION), edits=edits, allow_unauthenticated=True) as one:
        response = await post(one, headers=ORIGIN)

    assert 403 == response.status_code


async def test_x_forwarded_host_replaces_the_host(nginx):
    """The service believes a trusted proxy."""
    edits = [("proxy_set_header Host $http_host;", "proxy_set_header X-Forwarded-Host $http_host;")]
    async with chain(nginx, always(COMPLETION), edits=edits, allow_unauthenticated=True) as one:
        response = await post(one, headers=ORIGIN)

    assert 200 == response.status_code


async def test_nginx_buffers_tokens_that_are_not_marked(nginx):
    """Tokens pass nginx at once because the service sends `x-accel-buffering: no`."""
    script, events = released_one_by_one()
    edits = [
        ("proxy_http_version", "proxy_ignore_headers X-Accel-Buffering;\n            proxy_http_version")
    ]
    async with chain(nginx, always(script), edits=edits) as one:
        first = asyncio.ensure_future(first_text(one))
        events[0].set()
        _, waiting = await asyncio.wait({first}, timeout=2)
        for event in events:
            event.set()
        await first

    assert waiting


async def first_text(one):
    """Return the first text of a stream."""
    async with streaming(one) as response:
        async for line in response.aiter_lines():
            if text := text_of(line):
                return text
    return ""


@asynccontextmanager
async def closing_replica():
    """Accept connections, and close each when the first bytes of a request have arrived."""

    async def close(reader, writer):
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield Backend(grpc=f"{host}:{port}", http=f"{host}:{port}", admin=f"{host}:{port}")


@pytest.mark.parametrize("retries", [True, False])
async def test_without_next_upstream_a_stopping_replica_fails_a_call(nginx, retries):
    """A replica closes an idle connection while nginx sends a request on it: the other serves the call."""
    edits = [] if retries else [without("proxy_next_upstream error non_idempotent;")]
    async with (
        ScriptedUpstream(always(COMPLETION)) as upstream,
        running_http(upstream.base_url) as service,
        closing_replica() as closing,
        nginx.in_front_of(closing, backend_of(service), edits=edits) as front,
    ):
        response = await front.http.post(COMPLETIONS, json=request_body())

    assert (200 if retries else 502) == response.status_code


# HAProxy


async def delays(one, client, events):
    """Return how long each token after the first took from the provider to the client."""
    found = []
    events[0].set()
    async with streaming(one, client) as response:
        lines = response.aiter_lines()
        for event in events:
            began = time.monotonic()
            event.set()
            while not text_of(await anext(lines)):
                pass
            found.append(time.monotonic() - began)
    return found[1:]


@pytest.mark.parametrize("no_delay", [True, False])
async def test_without_http_no_delay_tokens_are_late(haproxy, no_delay):
    """Without TLS, HAProxy marks each chunk as incomplete: a token waits for the next one, or for 0.2 s."""
    script, events = released_one_by_one()
    edits = [without(" ssl crt /etc/haproxy/tls.pem alpn http/1.1,h2")]
    edits += [] if no_delay else [without("option http-no-delay")]
    async with (
        chain(haproxy, always(script), edits=edits) as one,
        httpx.AsyncClient(base_url=f"http://{one.front.address}", trust_env=False, timeout=30) as client,
    ):
        times = await delays(one, client, events)

    assert no_delay == (statistics.median(times) < CORKED_S)


async def test_over_http_2_haproxy_hides_that_a_stream_failed(haproxy):
    """The error event arrives, and then the stream ends as if it were whole."""
    async with chain(haproxy, always(BROKEN)) as one, broken_stream_over_http_2(one) as peer:
        await peer.seen(lambda frame: frame.stream == 1 and frame.kind == DATA and frame.flags & END_STREAM)
        received = b"".join(frame.payload for frame in peer.frames if frame.kind == DATA)

    assert b"upstream_truncated" in received


async def test_without_abortonclose_the_provider_is_not_released(haproxy):
    """HAProxy waits for the response although its client has left."""
    edits = [without("option abortonclose")]
    async with chain(haproxy, always((Stall(),)), edits=edits) as one:
        await leave_before_the_response(one)
        with pytest.raises(TimeoutError):
            await one.upstream.closed(0, within_s=3)


PROXY_PROTOCOL = [
    ("default-server inter 1s fall 2", "default-server send-proxy-v2 inter 1s fall 2"),
    without("http-request set-header X-Forwarded-For %[src]"),
]


async def test_the_proxy_protocol_reports_the_client(haproxy):
    """Instead of a header, HAProxy may send the client's address before the request."""
    edits = PROXY_PROTOCOL
    async with chain(haproxy, always(COMPLETION), edits=edits) as one:
        for host in ("127.0.0.7", "127.0.0.8"):
            async with client_at(host, one.front) as client:
                await client.http.post(COMPLETIONS, json=request_body())
        records = await one.service.recorded(2)

    assert ["127.0.0.7", "127.0.0.8"] == [record["client_address"] for record in records]


# Both

FORWARDED = {
    "nginx": [
        "grpc_set_header X-Forwarded-For $remote_addr;",
        "proxy_set_header X-Forwarded-For $remote_addr;",
    ],
    "haproxy": ["http-request set-header X-Forwarded-For %[src]"],
}


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_without_x_forwarded_for_a_client_chooses_its_address(proxy, protocol):
    """The proxy passes on what the client wrote, and the service believes the proxy."""
    spoofed = {"x-forwarded-for": "203.0.113.66"}
    edits = [without(setting) for setting in FORWARDED[proxy.name]]
    async with chain(proxy, always(COMPLETION), edits=edits) as one:
        if protocol == "grpc":
            await one.front.chat.Complete(request(), metadata=list(spoofed.items()))
        else:
            await post(one, headers=spoofed)
        (record,) = await one.service.recorded()

    assert "203.0.113.66" == record["client_address"]


SHORT_TIMEOUTS = {
    "nginx": [
        ("proxy_read_timeout 660s", "proxy_read_timeout 1s"),
        ("grpc_read_timeout 660s", "grpc_read_timeout 1s"),
    ],
    "haproxy": [("timeout server 660s", "timeout server 1s")],
}
SILENT = (Pause(2.5), *COMPLETION)


async def test_a_timeout_shorter_than_a_call_cuts_it(proxy):
    """The proxy answers with 504, and the provider is released."""
    async with chain(proxy, always(SILENT), edits=SHORT_TIMEOUTS[proxy.name]) as one:
        response, failure = await asyncio.gather(post(one), failing(one.front.chat.Complete(request())))

    assert 504 == response.status_code
    assert "504" in failure.message


@pytest.mark.parametrize("heartbeat_s", [0.3, None])
async def test_heartbeats_keep_a_silent_stream(proxy, heartbeat_s):
    """A stream with comments outlasts the proxy's timeout, and one without them does not."""
    script, events = released_one_by_one()
    settings = {"edits": SHORT_TIMEOUTS[proxy.name], "http_heartbeat_s": heartbeat_s}
    async with chain(proxy, always((Pause(2.5), *script)), **settings) as one:
        for event in events:
            event.set()
        async with streaming(one) as response:
            received = await response.aread()

    assert (heartbeat_s is not None) == received.endswith(b"data: [DONE]\n\n")


async def test_without_a_long_timeout_nginx_ends_a_watch(nginx):
    """A watch of the health is silent as long as nothing changes."""
    edits = [("grpc_read_timeout 1d", "grpc_read_timeout 1s")]
    async with chain(nginx, always(COMPLETION), edits=edits) as one:
        watch = health_pb2_grpc.HealthStub(one.front.channel).Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        with pytest.raises(aio.AioRpcError):
            await watch.read()
