"""Clients that hang up, in every phase, and the ledger that shows when."""

import asyncio
import contextlib
import json

import pytest

from togetherchat_sandbox import Ended, Sandbox, SandboxSettings

NOTICED_WITHIN_S = 2.0


@pytest.fixture
async def paced():
    """A sandbox at a pace at which nothing is over before the client leaves."""
    async with Sandbox(SandboxSettings(first_token_ms=50, tokens_per_second=5)) as running:
        yield running


class Caller:
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

    def ask(self, *, bytes_max=None, **fields):
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
        async with asyncio.timeout(20):
            return await self.reader.readuntil(mark)


async def entry_when(sandbox, holds):
    """The only entry of the ledger, as soon as `holds` is true of it."""
    async with asyncio.timeout(20):
        while not (entries := sandbox.ledger.entries()) or not holds(entries[0]):  # noqa: ASYNC110  the ledger tells nobody
            await asyncio.sleep(0.002)
    return entries[0]


async def hung_up(sandbox, caller):
    """Hang up; the entry once it is over, after a proof that it came soon."""
    left_at = sandbox.ledger.now()
    caller.writer.transport.abort()
    entry = await entry_when(
        sandbox, lambda entry: entry.finished_at is not None and entry.closed_at is not None
    )
    assert max(entry.finished_at, entry.closed_at) - left_at < NOTICED_WITHIN_S
    return entry


async def test_while_the_request_is_sent(paced):
    """Half of a body, then nothing: no status, no model, and the client ended it."""
    async with Caller(paced) as caller:
        caller.ask(bytes_max=120)
        await entry_when(paced, lambda _: True)
        entry = await hung_up(paced, caller)
    assert (Ended.CLIENT_CLOSED, None, None) == (entry.ended, entry.status, entry.model)


@pytest.mark.parametrize("model", ["m", "sandbox/stall"])
@pytest.mark.parametrize("stream", [False, True])
async def test_before_the_headers(model, stream):
    """Waiting for the first byte, of a whole answer or of a stream."""
    # Slower than any machine: the answer must not begin before the caller has hung up.
    slow = SandboxSettings(first_token_ms=60_000, unary_wait_max_ms=60_000)
    async with Sandbox(slow) as sandbox, Caller(sandbox) as caller:
        caller.ask(model=model, stream=stream)
        await entry_when(sandbox, lambda entry: entry.model == model)
        entry = await hung_up(sandbox, caller)
    assert (Ended.CLIENT_CLOSED, None, 0) == (entry.ended, entry.first_byte_at, entry.tokens_sent)


@pytest.mark.parametrize("model", ["m", "sandbox/stall-after-2"])
async def test_in_mid_stream(paced, model):
    """After the second token, whether more would have come or not."""
    async with Caller(paced) as caller:
        caller.ask(model=model, stream=True)
        await caller.read_until(b'"content":" b"')
        entry = await hung_up(paced, caller)
    assert (Ended.CLIENT_CLOSED, 200, 2) == (entry.ended, entry.status, entry.tokens_sent)


async def test_while_nobody_reads():
    """A client that takes nothing stops the sandbox from sending; when it leaves, all is over."""
    async with Sandbox(SandboxSettings()) as sandbox, Caller(sandbox) as caller:
        caller.writer.transport.pause_reading()
        caller.ask(model="sandbox/huge-body", stream=True)
        await entry_when(sandbox, lambda entry: entry.first_byte_at is not None)
        await asyncio.sleep(0.2)
        entry = await hung_up(sandbox, caller)
    assert Ended.CLIENT_CLOSED is entry.ended


async def test_after_the_answer(paced):
    """An answer that was complete stays so; the connection is open until the client closes it."""
    async with Caller(paced) as caller:
        caller.ask(model="sandbox/fast", stream=True)
        await caller.read_until(b"[DONE]")
        entry = await entry_when(paced, lambda entry: entry.finished_at is not None)
        assert (Ended.COMPLETE, None) == (entry.ended, entry.closed_at)
        await hung_up_after(paced, caller)
    assert Ended.COMPLETE is entry.ended


async def hung_up_after(sandbox, caller):
    caller.writer.transport.abort()
    await entry_when(sandbox, lambda entry: entry.closed_at is not None)


async def test_silence_lasts():
    """A stalled stream has its headers and its tokens, and then neither an end nor a byte."""
    async with (
        Sandbox(SandboxSettings(first_token_ms=0, tokens_per_second=0)) as sandbox,
        Caller(sandbox) as caller,
    ):
        caller.ask(model="sandbox/stall-after-0", stream=True)
        assert b"200 OK" in await caller.read_until(b"\r\n\r\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await caller.reader.read(1)
        assert Ended.RUNNING is sandbox.ledger.entries()[0].ended


async def test_a_reset_is_a_reset(paced):
    """`reset` answers with RST, not with an orderly end."""
    async with Caller(paced) as caller:
        caller.ask(model="sandbox/reset")
        with pytest.raises(ConnectionResetError):
            await caller.read_until(b"never")


async def test_the_sandbox_stops_while_it_answers(paced):
    """Stopping drops every connection at once; the ledger says that it was the sandbox."""
    async with Caller(paced) as caller:
        caller.ask(model="sandbox/stall")
        await entry_when(paced, lambda entry: entry.model is not None)
        begun_at = paced.ledger.now()
        await paced.stop()
        (entry,) = paced.ledger.entries()
        assert (Ended.ABORTED_BY_SANDBOX, True) == (entry.ended, paced.ledger.now() - begun_at < 1)
