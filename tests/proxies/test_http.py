"""The HTTP listener through nginx and HAProxy: the same as without a proxy."""

import asyncio
import socket

import httpx
import pytest

from proxies.http_calls import (
    ORIGIN,
    broken_stream_over_http_2,
    leave_before_the_response,
    offering,
    post,
    streaming,
    text_of,
)
from proxies.provider import (
    BROKEN,
    COMPLETION,
    FIRST_TOKEN,
    RELEASED_S,
    TOKENS,
    released_one_by_one,
)
from proxies.relay import client_at
from proxies.reverse import SITE, chain
from support import openai
from support.app import request
from support.http2_peer import (
    DATA,
    END_STREAM,
    RST_STREAM,
)
from support.http_client import COMPLETIONS, events_of, request_body
from support.scripted_upstream import always
from support.upstream_script import Stall, json_response


async def test_a_call(proxy):
    async with chain(proxy, always(COMPLETION)) as one:
        response = await post(one, headers={"x-request-id": "mine"})

    assert (200, "mine") == (response.status_code, response.headers["x-request-id"])
    assert "Hello" == response.json()["choices"][0]["message"]["content"]


async def test_an_error(proxy):
    """The proxy leaves status, headers and body as they are."""
    async with chain(
        proxy, always(json_response(429, openai.error("No."), headers={"retry-after": "7"}))
    ) as one:
        response = await post(one)

    assert (429, "RATE_LIMITED", "true") == (
        response.status_code,
        response.headers["x-error-reason"],
        response.headers["x-should-retry"],
    )
    assert "rate_limit_exceeded" == response.json()["error"]["code"]


async def test_tokens_arrive_one_by_one(proxy):
    """The provider sends each token after the caller has received the one before it."""
    script, events = released_one_by_one()
    async with chain(proxy, always(script)) as one, asyncio.timeout(20):
        events[0].set()
        async with streaming(one) as response:
            lines = response.aiter_lines()
            for event, token in zip(events, TOKENS, strict=True):
                event.set()
                while not (text := text_of(await anext(lines))):
                    pass
                assert token == text


async def test_a_large_body(proxy):
    """A request of 5 MB."""
    async with chain(proxy, always(COMPLETION)) as one:
        body = request_body(messages=[{"role": "user", "content": "x" * 5_000_000}])
        response = await one.front.http.post(COMPLETIONS, json=body)
        (received,) = one.upstream.request_log.requests

    assert 200 == response.status_code
    assert 5_000_000 < len(received.body)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_before_the_response_releases_the_provider(proxy, stream):
    async with chain(proxy, always((Stall(),))) as one:
        await leave_before_the_response(one, stream=stream)
        await one.upstream.closed(0, within_s=RELEASED_S)


async def test_a_client_that_leaves_a_stream_releases_the_provider(proxy):
    script = (FIRST_TOKEN, Stall())
    async with chain(proxy, always(script)) as one:
        async with streaming(one) as response:
            await anext(response.aiter_lines())
        await one.upstream.closed(0, within_s=RELEASED_S)


async def broken_stream(one):
    """Return what arrives of a stream whose body is incomplete."""
    received = b""
    try:
        async with streaming(one) as response:
            async for data in response.aiter_raw():
                received += data
    except httpx.RemoteProtocolError as error:
        assert "incomplete chunked read" in str(error)  # noqa: PT017  the bytes before the failure are kept
        return received
    raise AssertionError("the body is complete")


async def test_a_stream_that_fails_in_its_middle_has_no_end(proxy):
    """The error event arrives, and the body stays incomplete: no client takes it for a whole one."""
    async with chain(proxy, always(BROKEN)) as one:
        received = await broken_stream(one)

    first, last = events_of(received.decode())
    assert "Hel" == first["choices"][0]["delta"]["content"]
    assert "upstream_truncated" == last["error"]["code"]


async def test_a_stream_that_fails_over_http_2(nginx):
    """nginx resets the stream, after the error event."""
    async with chain(nginx, always(BROKEN)) as one, broken_stream_over_http_2(one) as peer:
        await peer.seen(lambda frame: frame.stream == 1 and frame.kind == RST_STREAM)
        frames = [frame for frame in peer.frames if frame.stream == 1]

    assert b"upstream_truncated" in b"".join(frame.payload for frame in frames if frame.kind == DATA)
    assert [] == [frame for frame in frames if frame.kind == DATA and frame.flags & END_STREAM]


async def test_clients_that_support_both_use_http_1_1_with_haproxy(haproxy):
    """In HTTP/2, HAProxy would hide the failure: see the test of the setting."""
    async with chain(haproxy, always(BROKEN)) as one:
        chosen = await asyncio.to_thread(negotiated, one.front.address, offering(one, "h2", "http/1.1"))

    assert "http/1.1" == chosen


def negotiated(address, context):
    """Return the protocol of a TLS connection."""
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=20) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as connection,
    ):
        return connection.selected_alpn_protocol()


async def test_the_next_call_after_a_broken_stream(proxy):
    """The proxy takes the replica for healthy, and the next call succeeds."""
    scripts = iter([BROKEN, COMPLETION])
    async with chain(proxy, lambda _request: next(scripts)) as one:
        await broken_stream(one)
        response = await post(one)

    assert 200 == response.status_code


async def test_a_page_of_the_sites_own_is_served(proxy):
    """The proxy passes `Host` on, with which the service compares `Origin`; a page of another site is rejected."""
    async with chain(proxy, always(COMPLETION), allow_unauthenticated=True) as one:
        own = await post(one, headers=ORIGIN)
        foreign = await post(one, headers={**ORIGIN, "origin": "https://elsewhere.example"})

    assert (200, 403) == (own.status_code, foreign.status_code)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_the_log_has_the_clients_address(proxy, protocol):
    """The address from which the proxy was called, whatever the client writes in x-forwarded-for."""
    async with chain(proxy, always(COMPLETION)) as one, client_at("127.0.0.7", one.front) as client:
        spoofed = {"x-forwarded-for": "203.0.113.66"}
        if protocol == "grpc":
            await client.chat.Complete(request(), metadata=list(spoofed.items()))
        else:
            await client.http.post(COMPLETIONS, json=request_body(), headers=spoofed)
        (record,) = await one.service.recorded()

    assert "127.0.0.7" == record["client_address"]


WEBSOCKETS = [
    (
        "\nhttp {\n",
        "\nhttp {\n    map $http_upgrade $connection_upgrade {\n        default upgrade;\n        '' close;\n    }\n",
    ),
    (
        'proxy_set_header Connection "";',
        "proxy_set_header Upgrade $http_upgrade;\n            proxy_set_header Connection $connection_upgrade;",
    ),
]


@pytest.mark.parametrize("upgrade", ["", "websocket", "h2c"])
async def test_settings_for_websockets_do_no_harm(nginx, upgrade):
    """nginx with the usual lines for websockets: a call is served, whether it offers an upgrade or not."""
    headers = {"connection": "Upgrade", "upgrade": upgrade} if upgrade else {}
    async with chain(nginx, always(COMPLETION), edits=WEBSOCKETS) as one:
        response = await post(one, headers=headers)

    assert 200 == response.status_code


async def test_the_console_is_served(proxy):
    """The page at the root, under the site's name."""
    async with chain(proxy, always(COMPLETION), console=True, allow_unauthenticated=True) as one:
        page = await one.front.http.get("/", headers={"host": SITE})

    assert 200 == page.status_code
    assert "<html" in page.text
