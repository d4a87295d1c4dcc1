"""What each setting of nginx in docs/proxies.md is for: the behavior without it."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from proxies.http_calls import ORIGIN, post, streaming, text_of
from proxies.provider import BROKEN, COMPLETION, LONG_STATUS, released_one_by_one
from proxies.reverse import Backend, backend_of, chain, without
from support.app import failing, request
from support.http_client import COMPLETIONS, request_body, running_http
from support.scripted_upstream import ScriptedUpstream, always
from support.waiting import eventually

LARGE = "x" * 5_000_000
KEEPALIVE = "server 10.0.0.12:3000;\n        keepalive 64;"


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


async def test_without_a_long_timeout_nginx_ends_a_watch(nginx):
    """A watch of the health is silent as long as nothing changes."""
    edits = [("grpc_read_timeout 1d", "grpc_read_timeout 1s")]
    async with chain(nginx, always(COMPLETION), edits=edits) as one:
        watch = health_pb2_grpc.HealthStub(one.front.channel).Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        with pytest.raises(aio.AioRpcError):
            await watch.read()
