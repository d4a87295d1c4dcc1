"""The pace of replies on a real clock. The upper bounds are wide: the machine may be busy."""

import asyncio
import time

import httpx
import pytest

from togetherchat_sandbox import Sandbox, SandboxSettings

EARLY_S = 0.005


async def arrivals(sandbox, **fields):
    """Return the time of each read with data, and the number of events in it."""
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "echo: " + "a " * 30}],
        "stream": True,
        **fields,
    }
    async with httpx.AsyncClient(verify=False) as client:
        start_s = time.monotonic()
        async with client.stream("POST", f"{sandbox.base_url}/chat/completions", json=body) as answer:
            return [(time.monotonic() - start_s, data.count(b"data: ")) async for data in answer.aiter_raw()]


async def test_tokens_are_sent_when_they_are_due():
    """The first token arrives on time, the last one 30 intervals later, and none early."""
    async with Sandbox(SandboxSettings(first_token_ms=60, tokens_per_second=200)) as sandbox:
        reads = await arrivals(sandbox)
    first_s, last_s = reads[0][0], reads[-1][0]
    assert 0.06 - EARLY_S <= first_s
    assert 0.06 + 30 / 200 - EARLY_S <= last_s < 1.5


async def test_a_late_wake_up_does_not_add_up():
    """After the loop was blocked, the tokens that became due meanwhile arrive together."""
    async with Sandbox(SandboxSettings(first_token_ms=0, tokens_per_second=100)) as sandbox:
        asking = asyncio.create_task(arrivals(sandbox))
        async with asyncio.timeout(5):
            while not any(entry.tokens_sent for entry in sandbox.request_log.entries()):  # noqa: ASYNC110  the request log has no event to wait for
                await asyncio.sleep(0.001)
        time.sleep(0.25)  # noqa: ASYNC251  blocks the loop on purpose
        reads = await asking
    assert max(events for _, events in reads) >= 10


async def test_tokens_due_together_share_a_write():
    """Without a pace, a short completion arrives in at most three reads, not token by token."""
    async with Sandbox(SandboxSettings(first_token_ms=0, tokens_per_second=0)) as sandbox:
        assert len(await arrivals(sandbox)) <= 3


@pytest.mark.parametrize(("least_s", "cap_ms"), [(0.15, 3_000), (0.05, 50)])
async def test_a_unary_response_is_paced(least_s, cap_ms):
    """A unary response arrives when its last token would, or at the cap."""
    settings = SandboxSettings(first_token_ms=0, tokens_per_second=200, unary_wait_max_ms=cap_ms)
    async with Sandbox(settings) as sandbox:
        ((arrived_s, _),) = await arrivals(sandbox, stream=False)
    assert least_s - EARLY_S <= arrived_s < least_s + 1
