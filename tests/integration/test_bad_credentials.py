"""The auth throttle, through both frontends of one service."""

import json

import grpc
import pytest

from support import openai
from support.app import collect, failing, request
from support.http_client import request_body, running_http
from support.scripted_upstream import ScriptedUpstream
from support.upstream_script import json_response

GOOD, BAD = "tgp_v1_good0123456789", "tgp_v1_revoked0123456789"


def provider(sent):
    """Script a provider that accepts one key."""
    if sent.headers.get("authorization") == f"Bearer {GOOD}":
        return json_response(200, openai.completion())
    return json_response(401, openai.error("Invalid API key provided"))


def with_key(key):
    return [("authorization", f"Bearer {key}")]


@pytest.fixture
async def upstream():
    async with ScriptedUpstream(provider) as started:
        yield started


def running_service(upstream, **settings):
    chosen = {"upstream_credentials": "caller", "auth_failures_per_minute": 1, **settings}
    return running_http(upstream.base_url, key=None, **chosen)


async def reason(call):
    return (await failing(call)).info.reason


async def test_an_address_with_repeated_failures_has_to_wait(upstream):
    """After one failure, every unknown caller of the address waits; nothing is sent to the provider."""
    async with running_service(upstream) as service:
        chat = service.app.chat
        first = await reason(chat.Complete(request()))
        throttled = [
            await failing(chat.Complete(request())),
            await failing(chat.Complete(request(), metadata=with_key(GOOD))),
        ]
        over_http = await service.client.post(
            "/v1/chat/completions", json=request_body(), headers={"authorization": f"Bearer {GOOD}"}
        )

    assert "MISSING_CREDENTIALS" == first
    assert [(grpc.StatusCode.RESOURCE_EXHAUSTED, "CALLER_QUOTA")] * 2 == [
        (failure.code, failure.info.reason) for failure in throttled
    ]
    assert all(0 < failure.details["RetryInfo"].retry_delay.seconds <= 72 for failure in throttled)
    assert "fix the credentials" in throttled[0].message
    assert (429, "rate_limit_exceeded") == (over_http.status_code, over_http.json()["error"]["code"])
    assert 0 < int(over_http.headers["retry-after"]) <= 73
    assert 0 == len(upstream.request_log.requests)


async def test_keys_that_the_provider_rejects_are_counted(upstream):
    """Each one costs a request to the provider: no more are sent than the limit allows."""
    async with running_service(upstream) as service:
        reasons = [
            await reason(service.app.chat.Complete(request(), metadata=with_key(f"{BAD}{n}")))
            for n in range(6)
        ]

    assert ["CALLER_KEY_REJECTED"] + ["CALLER_QUOTA"] * 5 == reasons
    assert 1 == len(upstream.request_log.requests)


async def test_a_caller_that_was_served_is_exempt(upstream):
    """Behind a proxy all callers have one address. This holds in both frontends."""
    async with running_service(upstream) as service:
        chat = service.app.chat
        await chat.Complete(request(), metadata=with_key(GOOD))
        for _ in range(4):
            await failing(chat.Complete(request(), metadata=with_key(BAD)))
        await chat.Complete(request(), metadata=with_key(GOOD))
        listed = await service.client.get("/v1/models", headers={"authorization": f"Bearer {GOOD}"})
        over_http = await service.client.post(
            "/v1/chat/completions", json=request_body(), headers={"authorization": f"Bearer {GOOD}"}
        )
        _, failure = await collect(chat.StreamComplete(request(), metadata=with_key("unknown")))

    assert "CALLER_QUOTA" == failure.info.reason
    assert 200 == over_http.status_code
    assert 429 != listed.status_code


async def test_zero_disables_the_throttle(upstream):
    """Every call gets its own reason."""
    async with running_service(upstream, auth_failures_per_minute=0) as service:
        reasons = {await reason(service.app.chat.Complete(request())) for _ in range(10)}

    assert {"MISSING_CREDENTIALS"} == reasons


async def test_the_log_contains_no_key(upstream):
    """This holds for accepted and for rejected keys."""
    async with running_service(upstream) as service:
        for key in (GOOD, BAD, BAD, BAD, BAD):
            call = service.app.chat.Complete(request(), metadata=with_key(key))
            await (call if key == GOOD else failing(call))
    log = service.app.log.getvalue()

    lines = [line for line in map(json.loads, log.splitlines()) if line["event"] == "call"]
    assert {"OK", "UNAUTHENTICATED"} <= {line["code"] for line in lines}
    assert "tgp_v1" not in log
