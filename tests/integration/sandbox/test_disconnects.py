"""Clients that disconnect, in every phase, and the request log that shows when."""

import asyncio
import contextlib
import json

import pytest

from togetherchat_sandbox import Ended, Sandbox, SandboxSettings

NOTICED_WITHIN_S = 2.0


@pytest.fixture
async def paced():
    """A sandbox at a pace at which no reply ends before the client disconnects."""
    async with Sandbox(SandboxSettings(first_token_ms=50, tokens_per_second=5)) as running:
        yield running


class RawClient:
    """A raw connection that sends one chat request."""

    def __init__(self, sandbox):
        self._port = int(sandbox.base_url.rpartition(":")[2].removesuffix("/v1"))

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_):
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    def send(self, *, bytes_max=None, **fields):
        body = json.dumps(
            {
                "model": "m",
                "messages": [{"role": "user", "content": "echo: a b c d e f g h i j k l"}],
                **fields,
            }
        ).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        self.writer.write((head.encode() + body)[:bytes_max])

    async def read_until(self, mark):
        async with asyncio.timeout(5):
            return await self.reader.readuntil(mark)


async def entry_when(sandbox, holds):
    """Return the only entry of the request log, as soon as `holds` is true of it."""
    async with asyncio.timeout(5):
        while not (entries := sandbox.request_log.entries()) or not holds(entries[0]):  # noqa: ASYNC110  the request log has no event to wait for
            await asyncio.sleep(0.002)
    return entries[0]


async def disconnected(sandbox, client):
    """Disconnect; return the entry once the request has ended, which must be soon."""
    disconnected_at = sandbox.request_log.now()
    client.writer.transport.abort()
    entry = await entry_when(
        sandbox, lambda entry: entry.finished_at is not None and entry.closed_at is not None
    )
    assert max(entry.finished_at, entry.closed_at) - disconnected_at < NOTICED_WITHIN_S
    return entry


async def test_while_the_request_is_sent(paced):
    """A client that disconnects after half of a body leaves an entry without status and model."""
    async with RawClient(paced) as client:
        client.send(bytes_max=120)
        await entry_when(paced, lambda _: True)
        entry = await disconnected(paced, client)
    assert (Ended.CLIENT_CLOSED, None, None) == (entry.ended, entry.status, entry.model)


@pytest.mark.parametrize("model", ["m", "sandbox/stall"])
@pytest.mark.parametrize("stream", [False, True])
async def test_before_the_headers(model, stream):
    """A disconnect before the first byte of a unary response or of a stream is logged."""
    # Slower than any machine: the reply must not begin before the client has disconnected.
    slow = SandboxSettings(first_token_ms=60_000, unary_wait_max_ms=60_000)
    async with Sandbox(slow) as sandbox, RawClient(sandbox) as client:
        client.send(model=model, stream=stream)
        await entry_when(sandbox, lambda entry: entry.model == model)
        entry = await disconnected(sandbox, client)
    assert (Ended.CLIENT_CLOSED, None, 0) == (entry.ended, entry.first_byte_at, entry.tokens_sent)


@pytest.mark.parametrize("model", ["m", "sandbox/stall-after-2"])
async def test_in_mid_stream(paced, model):
    """A disconnect after the second token is logged, whether more tokens would follow or not."""
    async with RawClient(paced) as client:
        client.send(model=model, stream=True)
        await client.read_until(b'"content":" b"')
        entry = await disconnected(paced, client)
    assert (Ended.CLIENT_CLOSED, 200, 2) == (entry.ended, entry.status, entry.tokens_sent)


async def test_while_the_client_does_not_read():
    """A client that does not read blocks the reply; its disconnect ends the request."""
    async with Sandbox(SandboxSettings()) as sandbox, RawClient(sandbox) as client:
        client.writer.transport.pause_reading()
        client.send(model="sandbox/huge-body", stream=True)
        await entry_when(sandbox, lambda entry: entry.first_byte_at is not None)
        await asyncio.sleep(0.2)
        entry = await disconnected(sandbox, client)
    assert Ended.CLIENT_CLOSED is entry.ended


async def test_after_the_reply(paced):
    """A complete reply stays complete; the connection stays open until the client closes it."""
    async with RawClient(paced) as client:
        client.send(model="sandbox/fast", stream=True)
        await client.read_until(b"[DONE]")
        entry = await entry_when(paced, lambda entry: entry.finished_at is not None)
        assert (Ended.COMPLETE, None) == (entry.ended, entry.closed_at)
        await disconnected_after(paced, client)
    assert Ended.COMPLETE is entry.ended


async def disconnected_after(sandbox, client):
    client.writer.transport.abort()
    await entry_when(sandbox, lambda entry: entry.closed_at is not None)


async def test_a_stall_lasts():
    """A stalled stream has headers and its tokens, then neither a byte nor an end."""
    async with (
        Sandbox(SandboxSettings(first_token_ms=0, tokens_per_second=0)) as sandbox,
        RawClient(sandbox) as client,
    ):
        client.send(model="sandbox/stall-after-0", stream=True)
        assert b"200 OK" in await client.read_until(b"\r\n\r\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.reader.read(1)
        assert Ended.RUNNING is sandbox.request_log.entries()[0].ended


async def test_a_reset_is_a_reset(paced):
    """`reset` sends RST instead of closing the connection in order."""
    async with RawClient(paced) as client:
        client.send(model="sandbox/reset")
        with pytest.raises(ConnectionResetError):
            await client.read_until(b"never")


async def test_the_sandbox_stops_during_a_reply(paced):
    """Stopping closes every connection at once; the request log attributes that to the sandbox."""
    async with RawClient(paced) as client:
        client.send(model="sandbox/stall")
        await entry_when(paced, lambda entry: entry.model is not None)
        stopping_at = paced.request_log.now()
        await paced.stop()
        (entry,) = paced.request_log.entries()
        assert (Ended.ABORTED_BY_SANDBOX, True) == (entry.ended, paced.request_log.now() - stopping_at < 1)


async def test_a_client_that_ends_its_side_has_disconnected(paced):
    """A FIN from the client during a reply ends the request, as with most servers of providers."""
    async with RawClient(paced) as client:
        client.send(model="sandbox/stall")
        await entry_when(paced, lambda entry: entry.model is not None)
        client.writer.write_eof()
        entry = await entry_when(paced, lambda entry: entry.closed_at is not None)
    assert Ended.CLIENT_CLOSED is entry.ended


async def test_requests_share_a_connection(paced):
    """After a complete reply the next request is served on the same connection; both close together."""
    async with RawClient(paced) as client:
        for _ in range(2):
            client.send(model="sandbox/fast", stream=True)
            await client.read_until(b"0\r\n\r\n")
        assert [None, None] == [entry.closed_at for entry in paced.request_log.entries()]
        await disconnected_after(paced, client)
    first, second = paced.request_log.entries()
    assert (Ended.COMPLETE, Ended.COMPLETE, True) == (
        first.ended,
        second.ended,
        first.closed_at == second.closed_at,
    )


async def test_a_stopped_sandbox_leaves_no_connection():
    """Stopping closes idle connections, those of pending requests, and the listener."""
    async with (
        Sandbox(SandboxSettings()) as sandbox,
        RawClient(sandbox) as idle,
        RawClient(sandbox) as pending,
    ):
        pending.send(model="sandbox/stall")
        await entry_when(sandbox, lambda entry: entry.model is not None)
        await sandbox.stop()
        for client in (idle, pending):
            with contextlib.suppress(ConnectionResetError):
                assert b"" == await client.reader.read()
        with pytest.raises(ConnectionRefusedError):
            await RawClient(sandbox).__aenter__()
