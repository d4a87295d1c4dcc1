"""A timer that moves without touching the event loop."""

import asyncio

from togetherchat_server.frontends.lazy_timer import LazyTimer


async def fired(timer_of, *, wait_s):
    times = []
    loop = asyncio.get_running_loop()
    began = loop.time()
    timer = LazyTimer(loop, lambda: times.append(loop.time() - began))
    timer_of(timer)
    await asyncio.sleep(wait_s)
    timer.close()
    return times


async def test_the_timer_expires_once():
    """The callback runs when the time has passed."""
    (at,) = await fired(lambda timer: timer.start(0.02), wait_s=0.2)
    assert at >= 0.02


async def test_the_timer_can_be_moved():
    """Both later and earlier times are possible."""

    def later(timer):
        timer.start(0.01)
        timer.start(0.1)

    def sooner(timer):
        timer.start(60)
        timer.start(0.01)

    (at,) = await fired(later, wait_s=0.3)
    assert at >= 0.1
    assert 1 == len(await fired(sooner, wait_s=0.2))


async def test_the_timer_can_only_be_shortened():
    """A longer time changes nothing."""

    def shortened(timer):
        timer.start(0.02)
        timer.shorten(60)

    assert 1 == len(await fired(shortened, wait_s=0.2))


async def test_the_timer_can_be_stopped():
    """A stopped timer does not expire, and can be started again."""

    def stopped(timer):
        timer.start(0.01)
        timer.stop()

    def again(timer):
        stopped(timer)
        timer.start(0.02)

    assert [] == await fired(stopped, wait_s=0.1)
    assert 1 == len(await fired(again, wait_s=0.2))
