"""What each setting of HAProxy in docs/proxies.md is for: the behavior without it."""

import statistics
import time

import httpx
import pytest

from proxies.http_calls import broken_stream_over_http_2, leave_before_the_response, streaming, text_of
from proxies.provider import BROKEN, COMPLETION, released_one_by_one
from proxies.relay import client_at
from proxies.reverse import chain, without
from support.http2_peer import DATA, END_STREAM
from support.http_client import COMPLETIONS, request_body
from support.scripted_upstream import always
from support.upstream_script import Stall

CORKED_S = 0.15
"""Linux sends what a program has marked as incomplete after 0.2 s."""


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
    async with chain(haproxy, always(COMPLETION), edits=PROXY_PROTOCOL) as one:
        for host in ("127.0.0.7", "127.0.0.8"):
            async with client_at(host, one.front) as client:
                await client.http.post(COMPLETIONS, json=request_body())
        records = await one.service.recorded(2)

    assert ["127.0.0.7", "127.0.0.8"] == [record["client_address"] for record in records]
