"""Requests that are cheap to send and dear to parse, trusted proxies, and codings, over real sockets."""

import asyncio
import socket
import struct
import time

import pytest

from attack.body_attacks import json_bodies, wire_bodies
from support import openai
from support.app import CANARY_KEY, failing, running_app
from support.http_client import COMPLETIONS, raw_caller, request_body, running_http
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import json_response
from support.waiting import eventually

MEBIBYTE = 2**20
SIZE = 4 * MEBIBYTE
TURN_S = 0.4
"""CPU time that a turn of the event loop may take here. Unbounded, each took from 1 to 30 s."""
INVALID = {400, 413}
ACCEPTED = {"escapes", "quotes", "spaces"}
"""Valid requests, however odd."""


class Turns:
    """Measures the turns of the event loop while it is open.

    The time is the CPU time of its thread: other processes of a busy machine do not count.
    """

    def __init__(self):
        self.longest_s = 0.0
        self._watching = None

    async def __aenter__(self):
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_):
        self._watching.cancel()

    async def _watch(self):
        last_s = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now_s = time.thread_time()
            self.longest_s, last_s = max(self.longest_s, now_s - last_s), now_s


def upstream():
    return ScriptedUpstream(always(json_response(200, openai.completion())))


@pytest.mark.parametrize("name", sorted(json_bodies(1000)))
async def test_no_json_stops_the_service(name):
    """A body of 4 MiB is rejected, or served, without holding the event loop."""
    body = json_bodies(SIZE)[name]
    async with upstream() as provider, running_http(provider.base_url) as service, Turns() as turns:
        response = await service.client.post(
            COMPLETIONS, content=body, headers={"content-type": "application/json"}, timeout=60
        )

    assert (response.status_code in INVALID) == (name not in ACCEPTED), response.text[:200]
    assert TURN_S > turns.longest_s


@pytest.mark.parametrize("name", sorted(wire_bodies(1000)))
async def test_no_message_stops_the_service(name):
    """The same over gRPC."""
    message = wire_bodies(SIZE)[name]
    async with upstream() as provider, running_app(provider.base_url) as app, Turns() as turns:
        failure = await failing(app.channel.unary_unary("/togetherchat.v1.ChatService/Complete")(message))

    assert "INVALID_REQUEST" == failure.info.reason
    assert TURN_S > turns.longest_s


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, identity", "GZIP"])
async def test_a_compressed_body_is_rejected(coding):
    """The status is 415, and its header names what is accepted (RFC 9110 15.5.16)."""
    async with running_http() as service:
        response = await service.client.post(
            COMPLETIONS, json=request_body(), headers={"content-encoding": coding}
        )

    assert 415 == response.status_code
    assert "identity" == response.headers["accept-encoding"]
    assert "unsupported_content_encoding" == response.json()["error"]["code"]


async def test_the_coding_identity_is_accepted():
    """It means no coding."""
    async with upstream() as provider, running_http(provider.base_url) as service:
        response = await service.client.post(
            COMPLETIONS, json=request_body(), headers={"content-encoding": "identity"}
        )

    assert 200 == response.status_code


def proxy_header(source):
    addresses = socket.inet_aton(source) + socket.inet_aton("127.0.0.1") + struct.pack("!HH", 1, 2)
    return b"\r\n\r\n\x00\r\nQUIT\n\x21\x11" + struct.pack("!H", len(addresses)) + addresses


async def addresses_of(service, count):
    await eventually(lambda: len(service.app.records()) >= count)
    return [record["client_address"] for record in service.app.records()]


async def test_the_proxy_protocol_of_a_trusted_proxy_is_believed():
    """Every call of the connection has the address of the proxy's client."""
    async with (
        upstream() as provider,
        running_http(provider.base_url, trusted_proxies=["127.0.0.0/8"]) as service,
        raw_caller(service.address) as caller,
    ):
        await caller.send(proxy_header("198.51.100.7"))
        await caller.post(request_body())
        assert (await caller.read_head()).startswith(b"HTTP/1.1 200 ")
        await caller.post(request_body())
        addresses = await addresses_of(service, 2)

    assert ["198.51.100.7"] * 2 == addresses


async def test_a_trusted_proxy_need_not_send_the_header():
    """Such as the health check of a load balancer, or a proxy that sends x-forwarded-for."""
    async with (
        upstream() as provider,
        running_http(provider.base_url, trusted_proxies=["127.0.0.0/8"]) as service,
    ):
        headers = {"x-forwarded-for": "203.0.113.9, 198.51.100.7, 127.9.9.9"}
        await service.client.post(COMPLETIONS, json=request_body(), headers=headers)
        await service.client.post(COMPLETIONS, json=request_body())
        addresses = await addresses_of(service, 2)

    assert ["198.51.100.7", "127.0.0.1"] == addresses


async def test_a_stranger_cannot_choose_its_address():
    """Without trusted proxies, or from elsewhere, the header of the PROXY protocol is not HTTP."""
    async with running_http() as service, raw_caller(service.address) as caller:
        await caller.send(proxy_header("198.51.100.7"))
        assert (await caller.read_head()).startswith(b"HTTP/1.1 400 ")
        await service.client.post(
            COMPLETIONS, json=request_body(), headers={"x-forwarded-for": "198.51.100.7"}
        )
        addresses = await addresses_of(service, 1)

    assert ["127.0.0.1"] == addresses


async def test_the_address_of_a_grpc_call_is_that_of_the_client():
    """Envoy and other proxies of HTTP/2 send the same header."""
    async with upstream() as provider, running_app(provider.base_url, trusted_proxies=["127.0.0.1"]) as app:
        complete = app.channel.unary_unary("/togetherchat.v1.ChatService/Complete")
        await failing(complete(b"", metadata=[("x-forwarded-for", "198.51.100.7")]))
        await failing(complete(b""))
        await eventually(lambda: len(app.records()) == 2)

    assert ["198.51.100.7", "127.0.0.1"] == [record["client_address"] for record in app.records()]


async def test_bad_keys_of_one_client_do_not_concern_another_behind_the_same_proxy():
    """The auth throttle counts by the client's address."""
    rejecting = json_response(401, {"error": {"message": "no", "type": "invalid_request_error"}})
    async with (
        ScriptedUpstream(always(rejecting)) as provider,
        running_http(
            provider.base_url,
            upstream_credentials="caller",
            auth_failures_per_minute=1,
            trusted_proxies=["127.0.0.0/8"],
        ) as service,
    ):

        async def status(key, address):
            headers = {"authorization": f"Bearer {key}", "x-forwarded-for": address}
            return (await service.client.post(COMPLETIONS, json=request_body(), headers=headers)).status_code

        statuses = [
            await status("bad-key-1", "198.51.100.1"),
            await status("bad-key-2", "198.51.100.1"),
            await status("bad-key-3", "198.51.100.2"),
        ]

    assert [401, 429, 401] == statuses


async def test_bodies_that_are_received_are_bounded_together():
    """One address may use half of the bound; the excess request is rejected before it is complete."""
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer " + CANARY_KEY.encode() + b"\r\ncontent-length: 1000000\r\n\r\n"
    )
    async with (
        running_http(max_unread_bytes=400_000) as service,
        raw_caller(service.address) as first,
        raw_caller(service.address) as second,
    ):
        await first.send(head + b" " * 150_000)
        await eventually(lambda: service.app.app.in_flight == 1)
        await second.send(head + b" " * 150_000)
        answer = await second.read_head()

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"x-error-reason: OVERLOADED" in answer
