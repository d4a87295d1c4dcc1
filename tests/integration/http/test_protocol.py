"""Requests that a lax server misinterprets, sent to the complete service."""

import json

import pytest

from support import openai
from support.app import MODEL
from support.http_client import head, raw_caller, request_body, running_http
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Stall, json_response
from support.waiting import eventually

BODY = json.dumps(request_body()).encode()
KEY = "tgp_v1_callers0123456789"

OFFERS = {
    "the JDK's HttpClient": (
        "connection: Upgrade, HTTP2-Settings",
        "http2-settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
        "upgrade: h2c",
    ),
    "curl --http2": (
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQAoAAA",
    ),
    "nginx for websockets": ("upgrade: websocket", "connection: upgrade"),
}


async def read_response(caller):
    """Return the status and the body of a response."""
    text = await caller.read_head()
    length = int(text.lower().partition(b"content-length: ")[2].split()[0])
    return int(text.split()[1]), await caller.reader.readexactly(length)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
async def test_an_offered_upgrade_is_ignored(offer, chunked):
    """The request is served, wherever its bytes are split, and so is the next one."""
    framing = "transfer-encoding: chunked" if chunked else f"content-length: {len(BODY)}"
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY) if chunked else BODY
    data = head(framing, *offer) + body
    async with (
        ScriptedUpstream(always(json_response(200, openai.completion()))) as upstream,
        running_http(upstream.base_url) as service,
        raw_caller(service.address) as caller,
    ):
        for cut in (0, len(data) - len(body) - 1, len(data) - len(body), len(data) - 1):
            await caller.send(data[:cut])
            await eventually(lambda: service.app.http_server.connections == 1)
            await caller.send(data[cut:])
            status, body = await read_response(caller)
            assert (200, "Hi") == (status, json.loads(body)["choices"][0]["message"]["content"])
        await caller.post(request_body())
        assert 200 == (await read_response(caller))[0]

    assert [MODEL] * 5 == [json.loads(sent.body)["model"] for sent in upstream.request_log.requests]


async def test_a_key_in_the_trailers_is_ignored():
    """Trailers never become headers (RFC 9110 6.5.1)."""
    body = b"%x\r\n%b\r\n0\r\nauthorization: Bearer %b\r\n\r\n" % (len(BODY), BODY, KEY.encode())
    async with running_http(upstream_credentials="caller") as service, raw_caller(service.address) as caller:
        await caller.send(head("transfer-encoding: chunked") + body)
        assert 401 == (await read_response(caller))[0]


@pytest.mark.parametrize("authorized", [True, False])
async def test_endless_trailers_end_the_connection(authorized):
    """This holds for a rejected request, and for one that waits for its trailers."""
    key = (f"authorization: Bearer {KEY}",) if authorized else ()
    async with running_http(upstream_credentials="caller") as service, raw_caller(service.address) as caller:
        await caller.send(head("transfer-encoding: chunked", *key) + b"2\r\n{}\r\n0\r\n")
        if not authorized:
            assert 401 == (await read_response(caller))[0]
        await caller.send(b"x: y\r\n" * 3000)
        text = await caller.read_to_end()
        await eventually(lambda: service.app.app.in_flight == 0)

    assert authorized is text.startswith(b"HTTP/1.1 400 ")
    assert authorized is (b"the trailers are larger than 8192 bytes" in text)


async def test_a_malformed_chunk_is_rejected():
    """The status is 400 with a call record, and nothing after the chunk is read."""
    async with running_http() as service, raw_caller(service.address) as caller:
        await caller.send(head("transfer-encoding: chunked") + b"2\r\n{}\n0\r\n\r\n" + head(method="GET"))
        text = await caller.read_to_end()

    status, _, body = text.partition(b"\r\n\r\n")
    assert status.startswith(b"HTTP/1.1 400 ")
    assert "the chunked body is malformed" == json.loads(body)["error"]["message"]
    assert ["INVALID_REQUEST"] == [record["reason"] for record in service.records()]


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"GET /v1/models\r\n", "this is not HTTP/1.1"),
        (b"GET /v1/models HTTP/1.1\r\n\r\n", "the request must have exactly one Host header"),
        (
            b"GET /v1/models HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
            "the request must have exactly one Host header",
        ),
    ],
)
async def test_a_request_without_exactly_one_host_is_rejected(sent, message):
    """The status is 400 in the usual format, and the connection is closed."""
    async with running_http() as service, raw_caller(service.address) as caller:
        await caller.send(sent)
        text = await caller.read_to_end()

    status, _, body = text.partition(b"\r\n\r\n")
    assert status.startswith(b"HTTP/1.1 400 ")
    assert message == json.loads(body)["error"]["message"]
    assert [] == service.records()


async def test_a_caller_that_pipelines_and_leaves_releases_the_provider():
    """A second request waits behind the one in flight."""
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        running_http(upstream.base_url) as service,
        raw_caller(service.address) as caller,
    ):
        await caller.post(request_body())
        await upstream.received()
        await caller.post(request_body())
        caller.close()
        await upstream.closed(0)
        (record,) = await service.recorded()

    assert "CALLER_CANCELLED" == record["reason"]


async def test_the_bound_on_the_body_is_exact():
    """One byte more is rejected, with and without a declared length."""
    limit = 2000
    padded = json.dumps(request_body()).encode().ljust(limit)
    async with (
        ScriptedUpstream(always(json_response(200, openai.completion()))) as upstream,
        running_http(upstream.base_url, max_request_bytes=limit) as service,
    ):
        for body, status in ((padded, 200), (padded + b" ", 413)):
            async with raw_caller(service.address) as caller:
                await caller.send(head(f"content-length: {len(body)}") + body)
                assert status == (await read_response(caller))[0]
            async with raw_caller(service.address) as caller:
                await caller.send(
                    head("transfer-encoding: chunked") + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
                )
                assert status == (await read_response(caller))[0]
