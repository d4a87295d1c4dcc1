"""Calls of the HTTP listener through a proxy."""

import asyncio
import json
import ssl
from contextlib import asynccontextmanager

from proxies.reverse import SITE
from support.http2_peer import DATA, END_HEADERS, END_STREAM, HEADERS, header_block, http2_peer
from support.http_client import COMPLETIONS, request_body

ORIGIN = {"origin": f"https://{SITE}", "host": SITE}
"""The headers of a page of the service's own site."""


async def post(one, **options):
    return await one.front.http.post(COMPLETIONS, json=request_body(), **options)


@asynccontextmanager
async def streaming(one, client=None):
    """Open a stream through the proxy."""
    client = client or one.front.http
    async with client.stream("POST", COMPLETIONS, json=request_body(stream=True)) as response:
        yield response


def text_of(line):
    """Return the text of a line of a stream, or nothing."""
    _, found, data = line.partition("data: ")
    if not found or data == "[DONE]":
        return ""
    choices = json.loads(data).get("choices") or [{"delta": {}}]
    return choices[0]["delta"].get("content") or ""


async def leave_before_the_response(one, **members):
    """Send a request, and disconnect when the provider has received it."""
    call = asyncio.ensure_future(one.front.http.post(COMPLETIONS, json=request_body(**members)))
    await one.upstream.received()
    call.cancel()
    await asyncio.wait({call})


@asynccontextmanager
async def broken_stream_over_http_2(one):
    """Send a request over HTTP/2, and yield the peer."""
    body = json.dumps(request_body(stream=True)).encode()
    headers = header_block(COMPLETIONS, content_type="application/json")
    async with http2_peer(one.front.address, tls=offering(one, "h2")) as peer:
        peer.send(HEADERS, flags=END_HEADERS, stream=1, payload=headers)
        peer.send(DATA, flags=END_STREAM, stream=1, payload=body)
        yield peer


def offering(one, *protocols):
    """Return a TLS client that offers these protocols."""
    context = ssl.create_default_context()
    context.load_verify_locations(cadata=one.front.authority)
    context.set_alpn_protocols(protocols)
    return context
