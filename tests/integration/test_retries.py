"""Retries against a real upstream socket: how many attempts a call makes, and when it makes none."""

import asyncio
import time

import pytest

from support import openai
from support.app import collect, failing, request, running_app
from support.scripted_upstream import ScriptedUpstream, always, in_turn
from support.upstream_script import Reset, Send, json_response, sse, sse_event, sse_head

COMPLETION = json_response(200, openai.completion())
STREAM = sse([openai.chunk("Hi"), openai.DONE])
BUSY = json_response(503, {"error": {"message": "busy"}})
LIMITED = json_response(429, {"error": {"message": "slow down"}}, {"retry-after-ms": "20"})


async def test_a_unary_call_succeeds_after_two_failures():
    """The caller receives one completion and the number of attempts."""
    async with (
        ScriptedUpstream(in_turn(BUSY, LIMITED, COMPLETION)) as upstream,
        running_app(upstream.base_url, max_retries=2) as app,
    ):
        response = await app.chat.Complete(request())

    assert (3, 3) == (response.attempts, len(upstream.request_log.requests))


async def test_a_stream_succeeds_after_two_failures():
    """The caller does not see failures before the first event."""
    async with (
        ScriptedUpstream(in_turn(BUSY, LIMITED, STREAM)) as upstream,
        running_app(upstream.base_url, max_retries=2) as app,
    ):
        events, failure = await collect(app.chat.StreamComplete(request()))

    assert None is failure
    assert 3 == events[-1].completed.attempts
    assert 1 == sum(event.HasField("started") for event in events)


async def test_attempts_are_bounded():
    """After two retries the call fails, with the number of attempts in its details."""
    async with (
        ScriptedUpstream(always(BUSY)) as upstream,
        running_app(upstream.base_url, max_retries=2) as app,
    ):
        failure = await failing(app.chat.Complete(request()))

    assert 3 == len(upstream.request_log.requests)
    assert "3" == failure.info.metadata["attempts"]


@pytest.mark.parametrize(
    "response",
    [
        json_response(500, {}),
        json_response(400, {}),
        json_response(504, {}),
        (Reset(),),
        json_response(200, {"no": "answer"}),
    ],
    ids=["500", "400", "504", "reset", "malformed"],
)
async def test_a_request_that_may_be_billed_is_not_retried(response):
    """One attempt is made, whatever `--max-retries` allows."""
    async with (
        ScriptedUpstream(always(response)) as upstream,
        running_app(upstream.base_url, max_retries=2) as app,
    ):
        await failing(app.chat.Complete(request()))

    assert 1 == len(upstream.request_log.requests)


async def test_billable_retries_allows_one_more_attempt():
    """`--billable-retries 1` allows a second attempt after a 500."""
    script = in_turn(json_response(500, {}), COMPLETION)
    async with (
        ScriptedUpstream(script) as upstream,
        running_app(upstream.base_url, billable_retries=1) as app,
    ):
        response = await app.chat.Complete(request())

    assert 2 == response.attempts


async def test_nothing_is_retried_after_the_first_event():
    """A stream that breaks after a token fails without a retry."""
    broken = (Send(sse_head() + sse_event(openai.chunk("Hi"))), Reset())
    async with (
        ScriptedUpstream(always(broken)) as upstream,
        running_app(upstream.base_url, max_retries=2, billable_retries=1) as app,
    ):
        events, failure = await collect(app.chat.StreamComplete(request()))

    assert 1 == len(upstream.request_log.requests)
    assert ("UPSTREAM_TRUNCATED", "-1", 2) == (failure.info.reason, failure.pushback, len(events))


async def test_a_cancel_while_backing_off_sends_nothing_more():
    """A cancel during the delay before a retry prevents the second request."""
    wait = json_response(429, {"error": {"message": "slow down"}}, {"retry-after": "5"})
    async with (
        ScriptedUpstream(always(wait)) as upstream,
        running_app(upstream.base_url, max_retries=2) as app,
    ):
        call = app.chat.Complete(request())
        waiting = asyncio.ensure_future(call.wait_for_connection())
        await upstream.received()
        await upstream.until(lambda log: log.requests[0].bytes_sent)
        call.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    assert 1 == len(upstream.request_log.requests)
    assert ["CALLER_CANCELLED"] == [record["reason"] for record in app.records()]


async def test_a_delay_beyond_the_deadline_fails_at_once():
    """The caller receives the delay in the error instead of waiting for it."""
    wait = json_response(429, {"error": {"message": "slow down"}}, {"retry-after": "20"})
    async with (
        ScriptedUpstream(always(wait)) as upstream,
        running_app(upstream.base_url, max_retries=2) as app,
    ):
        began_s = time.monotonic()
        failure = await failing(app.chat.Complete(request(), timeout=10))
        took_s = time.monotonic() - began_s

    assert took_s < 5
    assert failure.details["RetryInfo"].retry_delay.seconds >= 20
    assert "-1" == failure.pushback


async def test_a_delay_of_the_provider_applies_to_the_next_call_too():
    """Until the delay is over, calls for that model fail without a request to the provider."""
    wait = json_response(
        429, {"error": {"message": "slow down", "type": "dynamic_token_limited"}}, {"retry-after": "20"}
    )
    async with ScriptedUpstream(always(wait)) as upstream, running_app(upstream.base_url) as app:
        await failing(app.chat.Complete(request()))
        second = await failing(app.chat.Complete(request()))
        other = await failing(app.chat.Complete(request(model="another/model")))

    assert 2 == len(upstream.request_log.requests)
    assert "RATE_LIMITED_TOKENS" == second.info.reason == other.info.reason
    assert int(second.pushback) > 15_000
    assert "attempts" not in second.info.metadata


async def test_the_throttle_opens_for_a_provider_that_is_down():
    """After a few dozen failures most calls fail without a request."""
    async with ScriptedUpstream(always(BUSY)) as upstream, running_app(upstream.base_url) as app:
        failures = [await failing(app.chat.Complete(request())) for _ in range(60)]

    assert {"UPSTREAM_OVERLOADED"} == {failure.info.reason for failure in failures}
    assert len(upstream.request_log.requests) < 50


async def test_the_sandboxs_recovering_models():
    """`sandbox/error-429-x2` fails twice and then succeeds: two retries are enough."""
    async with running_app(max_retries=2, sandbox_tokens_per_second=0) as app:
        response = await app.chat.Complete(request("echo: hi", model="sandbox/error-429-x2"))
        events, failure = await collect(
            app.chat.StreamComplete(request("echo: ho", model="sandbox/error-503-x2"))
        )

    assert 3 == response.attempts
    assert (None, 3) == (failure, events[-1].completed.attempts)
