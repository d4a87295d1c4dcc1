"""Read permits: who has one, whose turn it is, and when it is taken away."""

import asyncio
import time

import pytest

from support.waiting import eventually
from togetherchat_server.frontends.grpc import read_permits
from togetherchat_server.frontends.grpc.read_permits import ReadPermits, ReadTimeoutError


class Peer:
    """A call whose message arrives when the test sends it."""

    def __init__(self, host="192.0.2.1"):
        self.host = host
        self.reading = asyncio.Event()
        self.sent = asyncio.get_running_loop().create_future()

    def peer(self):
        return f"ipv4:{self.host}:1234"

    async def read(self):
        self.reading.set()
        return await self.sent


def new_permits(count=1):
    return ReadPermits(permits=count, clock=time.monotonic)


def start(permits, peer, **options):
    return asyncio.create_task(permits.read(peer, **options))


async def test_a_message_that_has_arrived_is_returned():
    """The common case does not wait."""
    permits = new_permits()
    for text in ("a", "b", "c"):
        peer = Peer()
        peer.sent.set_result(text)
        assert text == await permits.read(peer)


async def test_no_more_messages_are_read_than_there_are_permits(monkeypatch):
    """The third call waits until one of the first two has its message."""
    monkeypatch.setattr(read_permits, "CONTENDED_S", 60.0)
    permits = new_permits(2)
    peers = [Peer() for _ in range(3)]
    tasks = [start(permits, peer, timeout_s=60) for peer in peers]
    await peers[1].reading.wait()
    await asyncio.sleep(0.01)
    assert not peers[2].reading.is_set()
    peers[0].sent.set_result("first")
    await peers[2].reading.wait()
    for peer in peers[1:]:
        peer.sent.set_result("later")

    assert ["first", "later", "later"] == await asyncio.gather(*tasks)


async def test_a_message_must_arrive_in_time():
    """A peer that sends nothing keeps no permit."""
    permits = new_permits()
    with pytest.raises(ReadTimeoutError):
        await permits.read(Peer(), timeout_s=0.01)
    peer = Peer()
    peer.sent.set_result("next")
    assert "next" == await permits.read(peer)


async def test_a_permit_that_others_wait_for_is_taken_away(monkeypatch):
    """The longest holder loses it; alone it could have kept it."""
    monkeypatch.setattr(read_permits, "CONTENDED_S", 0.02)
    permits = new_permits()
    slow, other = Peer(), Peer("192.0.2.2")
    holding = start(permits, slow, timeout_s=60)
    await slow.reading.wait()
    await asyncio.sleep(0.05)
    assert not holding.done()
    waiting = start(permits, other, timeout_s=60)
    await other.reading.wait()
    other.sent.set_result("served")

    assert "served" == await waiting
    with pytest.raises(ReadTimeoutError):
        await holding


async def test_addresses_take_turns(monkeypatch):
    """One address with a hundred calls delays another by one call, not by a hundred."""
    monkeypatch.setattr(read_permits, "CONTENDED_S", 60.0)
    permits, order = new_permits(), []

    async def read(name, peer):
        await permits.read(peer, timeout_s=60)
        order.append(name)

    first = Peer()
    holding = start(permits, first, timeout_s=60)
    await first.reading.wait()
    crowd = [Peer() for _ in range(100)]
    honest = Peer("192.0.2.2")
    for peer in (*crowd, honest):
        peer.sent.set_result("")
    tasks = [asyncio.create_task(read("crowd", peer)) for peer in crowd]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(read("honest", honest)))
    await asyncio.sleep(0)
    first.sent.set_result("")
    await asyncio.gather(holding, *tasks)

    assert order.index("honest") <= 1


@pytest.mark.parametrize("begun", [False, True], ids=["waiting", "reading"])
async def test_a_cancelled_call_keeps_nothing(monkeypatch, begun):
    """Its permit, or its place, goes to the next call."""
    monkeypatch.setattr(read_permits, "CONTENDED_S", 60.0)
    permits = new_permits()
    holder, waiter, later = Peer(), Peer(), Peer()
    holding = start(permits, holder, timeout_s=60)
    await holder.reading.wait()
    waiting = start(permits, waiter, timeout_s=60)
    await asyncio.sleep(0.01)
    following = start(permits, later, timeout_s=60)
    await asyncio.sleep(0.01)
    cancelled = holding if begun else waiting
    cancelled.cancel()
    await asyncio.wait({cancelled})
    assert cancelled.cancelled()
    if not begun:
        holder.sent.set_result("")
    for peer in (waiter, later):
        if not peer.sent.done():
            peer.sent.set_result("")
    await following
    await asyncio.gather(holding, waiting, return_exceptions=True)
    await eventually(lambda: permits._free == 1 and not permits._holders and not permits._waiting)
