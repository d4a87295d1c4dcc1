"""Budgets of tenants in a real service, with the sandbox as provider and its bill as the judge."""

import asyncio

import grpc
import pytest

from support.app import request as chat_request
from support.app import running_app
from support.http_client import running_http
from support.tenants import Keys, bearer
from support.waiting import eventually
from togetherchat_sandbox import Sandbox, SandboxSettings
from togetherchat_server.config import SettingsError

MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
"""1.04 USD per million tokens, in the sandbox's price table and in the catalog."""
NANO_USD_PER_TOKEN = 1040
FAST = SandboxSettings(first_token_ms=0, tokens_per_second=0)


@pytest.fixture
async def sandbox():
    async with Sandbox(FAST) as running:
        yield running


@pytest.fixture
def key(tmp_path):
    return Keys(tmp_path / "keys").create("acme")


@pytest.fixture
def settings(tmp_path, key):
    """Return settings with these limits and a ledger in the test's folder."""

    def of(limits, **more):
        (tmp_path / "tenants.toml").write_text(limits)
        return {
            "api_keys_file": f"{tmp_path}/keys",
            "tenants_file": f"{tmp_path}/tenants.toml",
            "usage_database": f"sqlite:///{tmp_path}/usage.sqlite",
            "max_queued_calls": 1000,
            "queue_timeout_s": 20.0,
            **more,
        }

    return of


def request(text="Tell me more", **fields):
    return chat_request(text, model=MODEL, **fields)


async def outcome(call):
    """Return the code of a call, and its trailers."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code(), dict(error.trailing_metadata())
    return await call.code(), dict(await call.trailing_metadata())


async def spent(app):
    """Return what the quota store has committed and reserved today, in 1e-9 USD."""
    quotas = app.app._wiring._tenancy.quotas
    (day,) = [one for one in await quotas.statuses(["acme"]) if one.bucket == "budget_usd_per_day"]
    return day.used, day.reserved


async def test_a_tenant_cannot_spend_more_than_its_budget(sandbox, settings, key):
    """Two hundred callers at once, who repeat what is rejected: most of the budget is used, never more."""
    limits = "[tenants.acme]\nbudget_usd_per_day = 0.01\n"
    async with running_app(sandbox.base_url, **settings(limits)) as app:

        async def calls():
            for _ in range(8):
                call = app.chat.Complete(request(max_tokens=100), metadata=bearer(key))
                codes.add((await outcome(call))[0])

        codes = set()
        await asyncio.gather(*(calls() for _ in range(200)))
        committed, reserved = await spent(app)

    assert {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED} == codes
    assert committed == sandbox.bill.nano_usd
    assert 8_000_000 <= committed <= 10_000_000
    assert 0 == reserved


async def test_a_rejection_over_both_protocols(sandbox, settings, key):
    """Neither client may retry it: gRPC has a pushback of -1, OpenAI's SDKs another code than that of a rate."""
    limits = "[tenants.acme]\nbudget_usd_per_day = 0.01\n"
    async with running_app(sandbox.base_url, **settings(limits)) as app:
        code, trailers = await outcome(app.chat.Complete(request(max_tokens=20_000), metadata=bearer(key)))
    async with running_http(sandbox.base_url, **settings(limits)) as http:
        body = {"model": MODEL, "max_tokens": 20_000, "messages": [{"role": "user", "content": "Hi"}]}
        response = await http.client.post("/v1/chat/completions", json=body, headers=dict(bearer(key)))

    assert grpc.StatusCode.RESOURCE_EXHAUSTED is code
    assert ("-1", "false", "CALLER_QUOTA") == (
        trailers["grpc-retry-pushback-ms"], trailers["x-error-retryable"], trailers["x-error-reason"],
    )  # fmt: skip
    assert (429, "false") == (response.status_code, response.headers["x-should-retry"])
    error = response.json()["error"]
    assert ("insufficient_quota", "insufficient_quota") == (error["type"], error["code"])
    assert error["message"].startswith("tenant acme has 0.01 USD left of its 0.01 USD budget per day")
    assert "retry-after" not in response.headers
    assert 0 == sandbox.bill.nano_usd


async def test_streams_that_are_left_and_calls_that_are_cancelled_are_paid(settings, key):
    """What the provider was sent is booked as it bills it, within 2%."""
    text = "A long question. " * 400
    limits = "[tenants.acme]\nbudget_usd_per_day = 10\n"
    slow = SandboxSettings(first_token_ms=20, tokens_per_second=200)
    async with Sandbox(slow) as sandbox, running_app(sandbox.base_url, **settings(limits)) as app:
        await app.chat.Complete(request(text, max_tokens=5), metadata=bearer(key))
        whole = sandbox.bill.nano_usd
        for _ in range(30):
            stream = app.chat.StreamComplete(request(text, max_tokens=1000), metadata=bearer(key))
            async for event in stream:
                if event.HasField("delta"):
                    break
            stream.cancel()
        unary = [app.chat.Complete(request(text, max_tokens=1000), metadata=bearer(key)) for _ in range(5)]
        await eventually(lambda: app.app.in_flight >= 5)
        await eventually(lambda: sum(one.status is None for one in sandbox.request_log.entries()) >= 5)
        for call in unary:
            call.cancel()
        await eventually(lambda: app.app.in_flight == 0)
        await eventually(lambda: sandbox.bill.by_model[MODEL].requests == 36)
        committed, reserved = await spent(app)

    assert 0 == reserved
    assert sandbox.bill.nano_usd > 30 * whole
    assert pytest.approx(sandbox.bill.nano_usd, rel=0.02) == committed


async def test_a_restart_forgets_nothing(sandbox, settings, key):
    """The next process reads the sums of the day from the ledger."""
    limits = "[tenants.acme]\nbudget_usd_per_day = 1\nbudget_usd_per_month = 2\n"
    async with running_app(sandbox.base_url, **settings(limits)) as app:
        for _ in range(3):
            await app.chat.Complete(request(max_tokens=50), metadata=bearer(key))
        before = await spent(app)
    async with running_app(sandbox.base_url, **settings(limits)) as app:
        after = await spent(app)

    assert (sandbox.bill.nano_usd, 0) == before == after


async def test_what_is_left_is_reported_beyond_the_soft_limit(sandbox, settings, key):
    """In trailers and headers, on success, too."""
    limits = "[tenants.acme]\nbudget_usd_per_day = 0.01\nsoft_budget_ratio = 0.01\n"
    async with running_app(sandbox.base_url, **settings(limits)) as app:
        _, trailers = await outcome(app.chat.Complete(request(max_tokens=500), metadata=bearer(key)))

    left = float(trailers["x-budget-remaining-usd"])
    assert 0 < left < 0.01 - 500 * NANO_USD_PER_TOKEN / 1e9


async def test_a_fallback_that_does_not_fit_ends_with_the_failure_before_it(sandbox, settings, key):
    """The caller learns why its model failed, not that another one is too expensive."""
    limits = "[tenants.acme]\nbudget_usd_per_day = 0.01\n"
    message = request(max_tokens=3000, fallback_models=["moonshotai/Kimi-K3"])
    message.model = "sandbox/error-503"
    prices = '[prices."sandbox/error-503"]\ninput_usd_per_million_tokens = 0.2\noutput_usd_per_million_tokens = 0.6\n'
    async with running_app(sandbox.base_url, **settings(limits + prices)) as app:
        code, trailers = await outcome(app.chat.Complete(message, metadata=bearer(key)))
        committed, reserved = await spent(app)

    assert grpc.StatusCode.UNAVAILABLE is code
    assert "UPSTREAM_OVERLOADED" == trailers["x-error-reason"]
    assert (0, 0, 0) == (committed, reserved, sandbox.bill.nano_usd)


async def test_a_budget_needs_a_ledger(settings):
    """Without one, a restart would forget what was spent. The error says what to set."""
    with pytest.raises(SettingsError, match="a budget requires --usage-database"):
        async with running_app(
            "http://127.0.0.1:1/v1", **settings("[default]\nbudget_usd_per_day = 1\n", usage_database=None)
        ):
            pass
