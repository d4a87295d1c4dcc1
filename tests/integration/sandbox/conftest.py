"""A sandbox without pacing, and a client of it."""

import httpx
import pytest

from togetherchat_sandbox import Sandbox, SandboxSettings


@pytest.fixture
async def sandbox():
    async with Sandbox(SandboxSettings(first_token_ms=0, tokens_per_second=0)) as running:
        yield running


@pytest.fixture
async def client(sandbox):
    async with httpx.AsyncClient(base_url=sandbox.base_url, timeout=10, verify=False) as http:
        yield http
