"""Callers who bring bad credentials again and again, through both fronts of one service."""

import json

import grpc
import pytest

from support.app import collect, failing, request
from support.http_client import ask, running_door
from support.scripted_upstream import ScriptedUpstream
from support.upstream_script import json_answer

GOOD, BAD = "tgp_v1_good0123456789", "tgp_v1_revoked0123456789"
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
ANSWER = {"id": "oid-1", "created": 1, "model": "m", "choices": [CHOICE]}
REJECTED = {"error": {"message": "Invalid API key provided", "type": "invalid_request_error"}}


def judging(asked):
    """A provider that knows one key."""
    if asked.headers.get("authorization") == f"Bearer {GOOD}":
        return json_answer(200, ANSWER)
    return json_answer(401, REJECTED)


def with_key(key):
    return [("authorization", f"Bearer {key}")]


@pytest.fixture
async def upstream():
    async with ScriptedUpstream(judging) as started:
        yield started


def serving(upstream, **settings):
    chosen = {"upstream_credentials": "caller", "auth_failures_per_minute": 1, **settings}
    return running_door(upstream.base_url, key=None, **chosen)


async def reason(call):
    return (await failing(call)).info.reason


async def test_an_address_that_goes_on_failing_has_to_wait(upstream):
    """One is told what is wrong; then any unknown caller there waits, and the provider is not asked."""
    async with serving(upstream) as door:
        chat = door.app.chat
        told = await reason(chat.Complete(request()))
        refused = [
            await failing(chat.Complete(request())),
            await failing(chat.Complete(request(), metadata=with_key(GOOD))),
        ]
        over_http = await door.client.post(
            "/v1/chat/completions", json=ask(), headers={"authorization": f"Bearer {GOOD}"}
        )

    assert "MISSING_CREDENTIALS" == told
    assert [(grpc.StatusCode.RESOURCE_EXHAUSTED, "CALLER_QUOTA")] * 2 == [
        (failure.code, failure.info.reason) for failure in refused
    ]
    assert all(0 < failure.details["RetryInfo"].retry_delay.seconds <= 72 for failure in refused)
    assert "mend those" in refused[0].message
    assert (429, "caller_quota") == (over_http.status_code, over_http.json()["error"]["code"])
    assert 0 < int(over_http.headers["retry-after"]) <= 73
    assert 0 == len(upstream.ledger.requests)


async def test_keys_that_the_provider_rejects_count(upstream):
    """Each is a request there, from this service's address: as many as are let through, and no more."""
    async with serving(upstream) as door:
        told = [
            await reason(door.app.chat.Complete(request(), metadata=with_key(f"{BAD}{n}"))) for n in range(6)
        ]

    assert ["CALLER_KEY_REJECTED"] + ["CALLER_QUOTA"] * 5 == told
    assert 1 == len(upstream.ledger.requests)


async def test_a_neighbour_who_was_served_is_served(upstream):
    """Behind a proxy all have one address: whole answers and streams go on, in both fronts."""
    async with serving(upstream) as door:
        chat = door.app.chat
        await chat.Complete(request(), metadata=with_key(GOOD))
        for _ in range(4):
            await failing(chat.Complete(request(), metadata=with_key(BAD)))
        await chat.Complete(request(), metadata=with_key(GOOD))
        listed = await door.client.get("/v1/models", headers={"authorization": f"Bearer {GOOD}"})
        over_http = await door.client.post(
            "/v1/chat/completions", json=ask(), headers={"authorization": f"Bearer {GOOD}"}
        )
        _, failure = await collect(chat.StreamComplete(request(), metadata=with_key("unknown")))

    assert "CALLER_QUOTA" == failure.info.reason
    assert 200 == over_http.status_code
    assert 429 != listed.status_code


async def test_it_can_be_switched_off(upstream):
    """Zero: every call hears what is wrong with it."""
    async with serving(upstream, auth_failures_per_minute=0) as door:
        told = {await reason(door.app.chat.Complete(request())) for _ in range(10)}

    assert {"MISSING_CREDENTIALS"} == told


async def test_nothing_of_a_key_is_in_the_log(upstream):
    """Neither of the good one nor of those that are refused."""
    async with serving(upstream) as door:
        for key in (GOOD, BAD, BAD, BAD, BAD):
            call = door.app.chat.Complete(request(), metadata=with_key(key))
            await (call if key == GOOD else failing(call))
    log = door.app.log.getvalue()

    assert 5 == len([line for line in map(json.loads, log.splitlines()) if line["event"] == "call"])
    assert "tgp_v1" not in log
