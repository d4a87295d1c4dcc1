"""The pace of answers on a real clock. Bounds are wide on the late side: the machine may be busy."""

import asyncio
import time

import aiohttp
import pytest

from togetherchat_sandbox import Sandbox, SandboxSettings

EARLY_S = 0.005


async def arrivals(sandbox, **fields):
    """When each read brought something, and how many events it brought."""
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "echo: " + "a " * 30}],
        "stream": True,
        **fields,
    }
    told = []
    async with aiohttp.ClientSession() as session:
        begun_at = time.monotonic()
        async with session.post(f"{sandbox.base_url}/chat/completions", json=body) as answer:
            while data := await answer.content.readany():
                told.append((time.monotonic() - begun_at, data.count(b"data: ")))
    return told


async def test_tokens_come_when_they_are_due():
    """The first token after its time, the last one 30 beats later, and never early."""
    async with Sandbox(SandboxSettings(first_token_ms=60, tokens_per_second=200)) as sandbox:
        told = await arrivals(sandbox)
    first_s, last_s = told[0][0], told[-1][0]
    assert 0.06 - EARLY_S <= first_s
    assert 0.06 + 30 / 200 - EARLY_S <= last_s < 1.5


async def test_a_late_wake_up_does_not_add_up():
    """After the loop stood still, the tokens that fell due meanwhile come together."""
    async with Sandbox(SandboxSettings(first_token_ms=0, tokens_per_second=100)) as sandbox:
        asking = asyncio.create_task(arrivals(sandbox))
        await asyncio.sleep(0.05)
        time.sleep(0.25)  # noqa: ASYNC251  it blocks the loop on purpose
        told = await asking
    assert max(events for _, events in told) >= 10


async def test_several_tokens_at_once_go_in_one_write():
    """Without a pace a short answer arrives in a read or two, not token by token."""
    async with Sandbox(SandboxSettings(first_token_ms=0, tokens_per_second=0)) as sandbox:
        assert len(await arrivals(sandbox)) <= 3


@pytest.mark.parametrize(("least_s", "cap_ms"), [(0.15, 3_000), (0.05, 50)])
async def test_a_whole_answer_takes_its_time(least_s, cap_ms):
    """Without a stream the answer comes when its last token would, or at the cap."""
    settings = SandboxSettings(first_token_ms=0, tokens_per_second=200, unary_wait_max_ms=cap_ms)
    async with Sandbox(settings) as sandbox:
        ((arrived_s, _),) = await arrivals(sandbox, stream=False)
    assert least_s - EARLY_S <= arrived_s < least_s + 1
