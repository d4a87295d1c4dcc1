"""The retry loop with a scripted provider; nothing waits."""

from contextlib import aclosing

import pytest

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.call import Call
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.providers.together.opened_stream import OpenedStream
from togetherchat_server.upstream.adaptive_throttle import AdaptiveThrottle
from togetherchat_server.upstream.retry_loop import RetryEnvironment, RetryingChat
from togetherchat_server.upstream.retry_policy import RetryBudget, RetryPolicy

BUSY = Reason.UPSTREAM_OVERLOADED
STARTED = [service.StreamCompleteResponse(started=service.Started(id="1"))]
MORE = [service.StreamCompleteResponse(delta=service.Delta(text="x"))]


class Provider:
    """Ends each attempt as scripted: a reason fails it, None lets it succeed; `breaks_off` fails a stream."""

    def __init__(self, *outcomes, breaks_off=None):
        self.outcomes = list(outcomes)
        self.breaks_off = breaks_off
        self.requests = 0
        self.open = 0

    def _next(self):
        self.requests += 1
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if outcome is not None:
            raise ServiceError(outcome, "text")

    async def complete(self, request, call):
        self._next()
        return service.CompleteResponse(id="1")

    async def stream(self, request, call):
        return await OpenedStream.of(self._batches())

    async def _batches(self):
        self.open += 1
        try:
            self._next()
            yield STARTED
            yield MORE
            if self.breaks_off is not None:
                raise ServiceError(self.breaks_off, "text")
        finally:
            self.open -= 1


class Caller:
    """Calls a RetryingChat over a provider, with a clock that only sleeping advances."""

    def __init__(self, provider, *, throttle=None, deadline_s=60.0, policy=None):
        self.now_s = 0.0
        self.chance = 1.0
        self.delays = []
        self.provider = provider
        environment = RetryEnvironment(
            clock=lambda: self.now_s, random=lambda: self.chance, sleep=self._sleep
        )
        self._chat = RetryingChat(
            provider,
            policy=policy or RetryPolicy(),
            budget=RetryBudget(),
            throttle=throttle or AdaptiveThrottle(),
            environment=environment,
        )
        self.call = Call(
            id="r", method="m", received_s=0.0, deadline_s=deadline_s, deadline_reason=Reason.CALLER_DEADLINE,
            upstream_key=Secret("k"),
        )  # fmt: skip

    async def _sleep(self, seconds):
        self.delays.append((seconds, self.provider.open))
        self.now_s += seconds

    async def complete(self, **fields):
        return await self._chat.complete(request(**fields), self.call)

    async def stream(self, **fields):
        async with aclosing(await self._chat.stream(request(**fields), self.call)) as stream:
            return [events async for events in stream]


def request(model="m", **fields):
    return service.CompleteRequest(model=model, **fields)


async def failing(awaitable):
    with pytest.raises(ServiceError) as caught:
        await awaitable
    return caught.value.reason


async def test_an_overloaded_provider_is_retried():
    """Two failures lead to two delays, of which the second is twice the first, and a completion."""
    caller = Caller(Provider(BUSY, BUSY))

    assert "1" == (await caller.complete()).id
    assert [0.25, 0.5] == [seconds for seconds, _ in caller.delays]


async def test_the_last_failure_is_raised():
    """The error of the last retry is raised."""
    caller = Caller(Provider(BUSY, BUSY, Reason.UPSTREAM_BAD_GATEWAY))

    assert Reason.UPSTREAM_BAD_GATEWAY is await failing(caller.complete())
    assert 3 == caller.provider.requests


async def test_a_stream_is_retried_before_its_first_event():
    """The failed attempt's connection is released before the delay."""
    caller = Caller(Provider(BUSY))

    assert [STARTED, MORE] == await caller.stream()
    assert [(0.25, 0)] == caller.delays
    assert 0 == caller.provider.open


async def test_a_stream_is_never_retried_after_its_first_event():
    """Events that were passed on cannot be withdrawn."""
    caller = Caller(Provider(breaks_off=BUSY))

    assert BUSY is await failing(caller.stream())
    assert 1 == caller.provider.requests


async def test_a_fallback_comes_before_a_retry():
    """A failure that a fallback model can take over is not retried."""
    caller = Caller(Provider(BUSY))

    assert BUSY is await failing(caller.complete(fallback_models=["other"]))
    assert BUSY is await failing(Caller(Provider(BUSY)).stream(fallback_models=["other"]))
    assert 1 == caller.provider.requests


async def test_a_failure_without_a_fallback_is_retried():
    """A refused connection does not depend on the model, so it is retried."""
    caller = Caller(Provider(Reason.UPSTREAM_CONNECT_FAILED))

    assert "1" == (await caller.complete(fallback_models=["other"])).id


async def test_no_delay_exceeds_the_deadline():
    """A call without time for the delay fails at once."""
    caller = Caller(Provider(BUSY), deadline_s=0.2)

    assert BUSY is await failing(caller.complete())
    assert [] == caller.delays


async def test_the_budget_bounds_retries_over_all_calls():
    """When every call fails, retries are a tenth of the calls plus the floor."""
    caller = Caller(Provider(*[Reason.UPSTREAM_CONFLICT] * 10_000), policy=RetryPolicy(first_delay_s=0.0))
    for number in range(1000):
        await failing(caller.complete(model=f"m{number}"))

    assert 1000 + 100 + 10 == caller.provider.requests


async def test_a_provider_that_is_down_gets_no_request():
    """While the throttle is open, a call fails without a request."""
    caller = Caller(Provider(*[BUSY] * 1000), policy=RetryPolicy(retries_max=0))
    for _ in range(200):
        await failing(caller.complete())
    before = caller.provider.requests
    caller.chance = 0.5

    assert BUSY is await failing(caller.complete())
    assert before == caller.provider.requests


async def test_a_rejection_by_the_throttle_fails_at_once():
    """A rejection by the throttle is not retried."""
    caller = Caller(Provider(*[BUSY] * 1000), policy=RetryPolicy(first_delay_s=0.0))
    for _ in range(200):
        await failing(caller.complete())
    before, delays = caller.provider.requests, len(caller.delays)
    caller.chance = 0.5

    assert BUSY is await failing(caller.complete())
    assert BUSY is await failing(caller.stream())
    assert (before, delays) == (caller.provider.requests, len(caller.delays))


async def test_a_probe_is_not_retried():
    """While most requests fail, an admitted request is not retried."""
    caller = Caller(Provider(*[BUSY] * 1000), policy=RetryPolicy(first_delay_s=0.0))
    for _ in range(200):
        await failing(caller.complete())
    requests, delays = caller.provider.requests, len(caller.delays)

    assert BUSY is await failing(caller.complete())
    assert (requests + 1, delays) == (caller.provider.requests, len(caller.delays))
