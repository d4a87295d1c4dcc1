"""Attempts against a real upstream: how many there are, and when there are none."""

import asyncio
import time

import pytest

from support.app import collect, failing, request, running_app
from support.scripted_upstream import ScriptedUpstream, always, in_turn
from support.upstream_script import Reset, Send, chunk, json_answer, sse, sse_head

EVENT = '{"id":"o","choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"},"finish_reason":null}]}'
WHOLE = json_answer(
    200, {"id": "o", "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "Hi"}}]}
)
STREAM = sse([EVENT, "[DONE]"])
BUSY = json_answer(503, {"error": {"message": "busy"}})
LIMITED = json_answer(429, {"error": {"message": "slow down"}}, {"retry-after-ms": "20"})


async def test_a_whole_answer_after_two_failures():
    """The caller sees one answer, and how many requests it took."""
    async with (
        ScriptedUpstream(in_turn(BUSY, LIMITED, WHOLE)) as upstream,
        running_app(upstream.base_url, max_retries=2) as app,
    ):
        answer = await app.chat.Complete(request())

    assert (3, 3) == (answer.attempts, len(upstream.ledger.requests))


async def test_a_stream_after_two_failures():
    """Failures before the first event are not seen by the caller."""
    async with (
        ScriptedUpstream(in_turn(BUSY, LIMITED, STREAM)) as upstream,
        running_app(upstream.base_url, max_retries=2) as app,
    ):
        events, failure = await collect(app.chat.StreamComplete(request()))

    assert None is failure
    assert 3 == events[-1].completed.attempts
    assert 1 == sum(event.HasField("started") for event in events)


async def test_the_bound_on_attempts():
    """Two retries, then the failure, with the number of attempts in its details."""
    async with (
        ScriptedUpstream(always(BUSY)) as upstream,
        running_app(upstream.base_url, max_retries=2) as app,
    ):
        failure = await failing(app.chat.Complete(request()))

    assert 3 == len(upstream.ledger.requests)
    assert "3" == failure.info.metadata["attempts"]


@pytest.mark.parametrize(
    "answer",
    [
        json_answer(500, {}),
        json_answer(400, {}),
        json_answer(504, {}),
        (Reset(),),
        json_answer(200, {"no": "answer"}),
    ],
    ids=["500", "400", "504", "reset", "malformed"],
)
async def test_what_may_have_been_billed_is_not_sent_again(answer):
    """One request, whatever the number of retries."""
    async with (
        ScriptedUpstream(always(answer)) as upstream,
        running_app(upstream.base_url, max_retries=2) as app,
    ):
        await failing(app.chat.Complete(request()))

    assert 1 == len(upstream.ledger.requests)


async def test_one_costly_retry_by_the_operators_word():
    """`--billable-retries 1` buys a second attempt after a 500."""
    script = in_turn(json_answer(500, {}), WHOLE)
    async with (
        ScriptedUpstream(script) as upstream,
        running_app(upstream.base_url, billable_retries=1) as app,
    ):
        answer = await app.chat.Complete(request())

    assert 2 == answer.attempts


async def test_nothing_is_sent_again_after_the_first_event():
    """A stream that breaks after a token fails, once."""
    broken = (Send(sse_head() + chunk(f"data: {EVENT}\n\n".encode())), Reset())
    async with (
        ScriptedUpstream(always(broken)) as upstream,
        running_app(upstream.base_url, max_retries=2, billable_retries=1) as app,
    ):
        events, failure = await collect(app.chat.StreamComplete(request()))

    assert 1 == len(upstream.ledger.requests)
    assert ("UPSTREAM_TRUNCATED", "-1", 2) == (failure.info.reason, failure.pushback, len(events))


async def test_a_cancel_while_backing_off_sends_nothing_more():
    """The caller leaves during the wait: there is no socket open and no second request."""
    wait = json_answer(429, {"error": {"message": "slow down"}}, {"retry-after": "5"})
    async with (
        ScriptedUpstream(always(wait)) as upstream,
        running_app(upstream.base_url, max_retries=2) as app,
    ):
        call = app.chat.Complete(request())
        waiting = asyncio.ensure_future(call.wait_for_connection())
        await upstream.asked()
        await upstream.until(lambda ledger: ledger.requests[0].bytes_sent)
        call.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    assert 1 == len(upstream.ledger.requests)
    assert ["CALLER_CANCELLED"] == [record["reason"] for record in app.records()]


async def test_a_wait_that_does_not_fit_the_deadline_is_answered_at_once():
    """The caller hears the wait rather than sitting it out."""
    wait = json_answer(429, {"error": {"message": "slow down"}}, {"retry-after": "20"})
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


async def test_a_wait_of_the_providers_holds_for_the_next_call_too():
    """While the provider asked for patience, calls for that model are answered without asking it."""
    wait = json_answer(
        429, {"error": {"message": "slow down", "type": "dynamic_token_limited"}}, {"retry-after": "20"}
    )
    async with ScriptedUpstream(always(wait)) as upstream, running_app(upstream.base_url) as app:
        await failing(app.chat.Complete(request()))
        second = await failing(app.chat.Complete(request()))
        other = await failing(app.chat.Complete(request(model="another/model")))

    assert 2 == len(upstream.ledger.requests)
    assert "RATE_LIMITED_TOKENS" == second.info.reason == other.info.reason
    assert int(second.pushback) > 15_000
    assert "attempts" not in second.info.metadata


async def test_the_breaker_opens_for_a_provider_that_is_down():
    """After a few dozen failures most calls are answered without a request."""
    async with ScriptedUpstream(always(BUSY)) as upstream, running_app(upstream.base_url) as app:
        failures = [await failing(app.chat.Complete(request())) for _ in range(60)]

    assert {"UPSTREAM_OVERLOADED"} == {failure.info.reason for failure in failures}
    assert len(upstream.ledger.requests) < 50


async def test_the_simulators_recovering_names():
    """`sandbox/error-429-x2` fails twice and then answers: two retries are enough."""
    async with running_app(max_retries=2, sandbox_tokens_per_second=0) as app:
        answer = await app.chat.Complete(request("echo: hi", model="sandbox/error-429-x2"))
        events, failure = await collect(
            app.chat.StreamComplete(request("echo: ho", model="sandbox/error-503-x2"))
        )

    assert 3 == answer.attempts
    assert (None, 3) == (failure, events[-1].completed.attempts)
