"""The bound on the elements of a large request."""

import asyncio

import pytest

from togetherchat_server.calls.validation.bounds import RequestLimits
from togetherchat_server.calls.validation.elements import TURN_S, check_elements
from togetherchat_server.domain.reasons import Reason, ServiceError


async def test_the_scan_stops_at_the_bound():
    """What follows the first slice beyond the bound is not scanned."""
    scanned = []

    def counts():
        for number in range(10):
            scanned.append(number)
            yield 30

    with pytest.raises(ServiceError) as caught:
        await check_elements(counts(), RequestLimits(elements_max=100))

    assert Reason.INVALID_REQUEST is caught.value.reason
    assert "100 elements" in str(caught.value)
    assert [0, 1, 2, 3] == scanned


async def test_exactly_the_bound_is_allowed():
    """The bound is the highest allowed number."""
    await check_elements([60, 40], RequestLimits(elements_max=100))


async def test_other_work_has_its_turn():
    """A long scan does not hold the event loop for longer than a turn."""
    now_s, turns = 0.0, []

    def counts():
        nonlocal now_s
        for _ in range(10):
            now_s += TURN_S
            yield 1

    async def other():
        while True:
            turns.append(now_s)
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await check_elements(counts(), RequestLimits(), clock=lambda: now_s)
    task.cancel()

    assert 10 == len(turns)
