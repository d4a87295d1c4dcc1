"""Where an issuer's keys come from: cached, followed, and requested seldom."""

import asyncio
import time

import pytest

from support.tokens import Key, jwks
from support.waiting import eventually
from togetherchat_server.tenants.jwt import key_source
from togetherchat_server.tenants.jwt.key_source import (
    FRESH_S,
    RETRY_GAP_S,
    WAITING_MAX,
    KeyFile,
    KeysUnavailableError,
    KeyUrl,
)

OLD, NEW = Key("old"), Key("new", number=1)


class Endpoint:
    """Fetches the document that a test sets, and counts."""

    def __init__(self):
        self.answer = jwks(OLD)
        self.fetches = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self):
        self.fetches += 1
        answer = self.answer
        await self.gate.wait()
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def endpoint():
    return Endpoint()


@pytest.fixture
async def clock():
    return [1000.0]


@pytest.fixture
async def source(endpoint, clock, monkeypatch):
    monkeypatch.setattr(key_source, "REFRESH_GAP_S", 0.0)
    made = KeyUrl(endpoint.fetch, clock=lambda: clock[0])
    yield made
    await made.aclose()


def has(source, key):
    return source.current() is not None and source.current().find(key.id, key.algorithm) is not None


async def test_the_first_use_requests_the_keys_in_the_background(source, endpoint):
    """A call does not wait for what it may not need. Before, nothing has failed: no alert must fire."""
    assert source.available
    assert None is source.current()
    await eventually(lambda: has(source, OLD))

    assert (1, True) == (endpoint.fetches, source.available)


async def test_keys_are_requested_again_when_they_are_old(source, endpoint, clock):
    """A removed key is forgotten; while the request lasts the old keys are used."""
    await source.refresh()
    clock[0] += FRESH_S - 1
    source.current()
    assert 1 == endpoint.fetches
    endpoint.answer = jwks(NEW)
    clock[0] += 1

    assert has(source, OLD)
    await eventually(lambda: has(source, NEW))
    assert not has(source, OLD)


@pytest.mark.parametrize("answer", [OSError("refused"), ValueError("x"), RuntimeError("defect"), b"{}", b""])
async def test_a_failed_request_keeps_the_last_good_keys(source, endpoint, clock, answer, caplog):
    """Until the endpoint works again, which is tried every ten seconds."""
    await source.refresh()
    endpoint.answer = answer
    clock[0] += FRESH_S
    source.current()
    await eventually(lambda: not source.available)

    assert has(source, OLD)
    for _ in range(5):
        source.current()
    assert 2 == endpoint.fetches
    assert 1 == len([record for record in caplog.records if "last good keys" in record.message])
    endpoint.answer = jwks(NEW)
    clock[0] += RETRY_GAP_S
    source.current()
    await eventually(lambda: source.available)
    assert has(source, NEW)


async def test_many_calls_with_unknown_keys_share_one_request(source, endpoint, clock):
    """A request that began before the call may have missed the new key: then one more."""
    endpoint.gate.clear()
    source.current()
    await eventually(lambda: endpoint.fetches == 1)
    clock[0] += 1
    endpoint.answer = jwks(OLD, NEW)
    waiting = [asyncio.create_task(source.refresh()) for _ in range(100)]
    await asyncio.sleep(0)
    endpoint.gate.set()
    await asyncio.gather(*waiting)

    assert 2 == endpoint.fetches
    assert has(source, NEW)


async def test_requests_keep_a_distance(endpoint, monkeypatch):
    """Tokens with invented keys cannot make the service flood its issuer."""
    monkeypatch.setattr(key_source, "REFRESH_GAP_S", 0.2)
    source = KeyUrl(endpoint.fetch, clock=time.monotonic)
    started_s = time.monotonic()
    for _ in range(3):
        await source.refresh()

    assert 3 == endpoint.fetches
    assert time.monotonic() - started_s >= 0.4


async def test_a_call_beyond_the_bound_does_not_wait(source, endpoint):
    """Invented keys cannot collect waiting calls without bound."""
    endpoint.gate.clear()
    waiting = [asyncio.create_task(source.refresh()) for _ in range(WAITING_MAX)]
    await asyncio.sleep(0)

    with pytest.raises(KeysUnavailableError):
        await source.refresh()
    endpoint.gate.set()
    await asyncio.gather(*waiting)
    await source.refresh()


async def test_a_cancelled_call_does_not_cancel_the_request(source, endpoint):
    """Other calls wait for it."""
    endpoint.gate.clear()
    first, second = (asyncio.create_task(source.refresh()) for _ in range(2))
    await eventually(lambda: endpoint.fetches == 1)
    first.cancel()
    endpoint.gate.set()
    await second

    assert first.cancelled() or first.cancelling()
    assert has(source, OLD)


async def test_closing_ends_a_request(source, endpoint):
    """The process does not wait for the issuer."""
    endpoint.gate.clear()
    waiting = asyncio.create_task(source.refresh())
    await eventually(lambda: endpoint.fetches == 1)

    await source.aclose()
    waiting.cancel()
    await asyncio.wait({waiting})


async def test_a_refresh_that_fails_says_so(source, endpoint, clock):
    """The caller may retry: its token may be valid."""
    await source.refresh()
    clock[0] += 1
    endpoint.answer = OSError("refused")

    with pytest.raises(KeysUnavailableError):
        await source.refresh()


async def test_a_file_is_read_again_at_an_unknown_key(tmp_path):
    """Without waiting for the next check of the file."""
    path = tmp_path / "jwks.json"
    path.write_bytes(jwks(OLD))
    source = KeyFile(path, clock=lambda: 0.0)
    path.write_bytes(jwks(NEW))

    assert not has(source, NEW)
    await source.refresh()
    assert has(source, NEW)
