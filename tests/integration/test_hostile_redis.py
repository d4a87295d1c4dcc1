"""A server at Redis's address whose answers make no sense: limits are counted on this machine instead."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from togetherchat_server.tenants.quota_store import QuotaRejection
from togetherchat_server.tenants.redis.leases import Lease
from togetherchat_server.tenants.redis.quota_store import RedisQuotaStore
from togetherchat_server.tenants.tenants_file import QuotaLimits

LIMITS = QuotaLimits(requests_per_minute=10, tokens_per_minute=1000, max_concurrent_calls=5)
ANSWERS = {
    "a status": b"+OK\r\n",
    "nothing": b"$-1\r\n",
    "a number": b":1\r\n",
    "too few members": b"*1\r\n:0\r\n",
    "too many members": b"*4\r\n:0\r\n$1\r\n0\r\n$1\r\n0\r\n$1\r\n0\r\n",
    "infinity": b"*3\r\n:0\r\n$3\r\ninf\r\n$1\r\n0\r\n",
    "no number": b"*3\r\n:0\r\n$3\r\nnan\r\n$1\r\n0\r\n",
    "a negative number": b"*3\r\n:0\r\n$2\r\n-1\r\n$1\r\n0\r\n",
    "a text": b"*3\r\n:0\r\n$3\r\nabc\r\n$1\r\n0\r\n",
    "ten years": b"*3\r\n:0\r\n$9\r\n315360000\r\n$1\r\n0\r\n",
    "an error": b"-ERR unknown command\r\n",
    "not Redis": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a bad length": b"$abc\r\n",
    "an endless string": b"$1000000000000\r\nxx",
    "deep lists": b"*1\r\n" * 5000,
    "an empty line": b"\r\n",
    "silence": b"",
}


@asynccontextmanager
async def answering(answer):
    """Run a server that accepts the client's greeting and answers every other command with these bytes."""

    async def serve(reader, writer):
        try:
            while data := await reader.read(65536):
                greeting = data.count(b"CLIENT") + data.count(b"HELLO")
                writer.write(b"+OK\r\n" * greeting or answer)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_that_makes_no_sense_counts_as_unavailable(answer, caplog):
    """The call is admitted by this machine's own count, and one warning is written."""
    async with answering(answer) as url:
        store = RedisQuotaStore(url, timeout_s=0.5, clock=time.monotonic, replica="r")
        entered = await store.enter("acme", LIMITS)
        unavailable = store.unavailable
        await store.aclose()

    assert isinstance(entered, Lease)
    assert unavailable
    assert 1 == len([record for record in caplog.records if "Redis is unavailable" in record.getMessage()])


@pytest.mark.parametrize(
    ("answer", "rejected"),
    [
        (b"*3\r\n:0\r\n$1\r\n0\r\n$1\r\n0\r\n", False),
        (b"*3\r\n:1\r\n$1\r\n0\r\n$1\r\n0\r\n", True),
        (b"*3\r\n:0\r\n$3\r\n1.5\r\n$1\r\n0\r\n", True),
    ],
    ids=["admitted", "full", "wait"],
)
async def test_the_answers_of_the_script_are_understood(answer, rejected):
    """The control: these are what Redis answers."""
    async with answering(answer) as url:
        store = RedisQuotaStore(url, timeout_s=5, clock=time.monotonic, replica="r")
        entered = await store.enter("acme", LIMITS)
        unavailable = store.unavailable
        await store.aclose()

    assert rejected == isinstance(entered, QuotaRejection)
    assert not unavailable
