"""The loop around attempts, before a scripted provider; nothing waits."""

from contextlib import asynccontextmanager

import pytest

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.call import Call
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.upstream.adaptive_throttle import AdaptiveThrottle
from togetherchat_server.upstream.retry_loop import RetryEnvironment, RetryingChat
from togetherchat_server.upstream.retry_policy import RetryBudget, RetryPolicy

BUSY = Reason.UPSTREAM_OVERLOADED
STARTED = [service.StreamCompleteResponse(started=service.Started(id="1"))]
MORE = [service.StreamCompleteResponse(delta=service.Delta(text="x"))]


class Provider:
    """Ends each attempt as told: a reason fails it, None lets it succeed, MORE-then-reason breaks off."""

    def __init__(self, *outcomes, breaks_off=None):
        self.outcomes = list(outcomes)
        self.breaks_off = breaks_off
        self.asked = 0
        self.open = 0

    def _next(self):
        self.asked += 1
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if outcome is not None:
            raise ServiceError(outcome, "text")

    async def complete(self, request, call):
        self._next()
        return service.CompleteResponse(id="1")

    @asynccontextmanager
    async def stream(self, request, call):
        self.open += 1
        try:
            yield self._batches()
        finally:
            self.open -= 1

    async def _batches(self):
        self._next()
        yield STARTED
        yield MORE
        if self.breaks_off is not None:
            raise ServiceError(self.breaks_off, "text")


class Bench:
    """RetryingChat over a provider, with a clock that only sleeping moves."""

    def __init__(self, provider, *, throttle=None, deadline_s=60.0, policy=None):
        self.now_s = 0.0
        self.chance = 1.0
        self.waits = []
        self.provider = provider
        around = RetryEnvironment(clock=lambda: self.now_s, random=lambda: self.chance, sleep=self._sleep)
        self.attempts = RetryingChat(
            provider,
            policy=policy or RetryPolicy(),
            budget=RetryBudget(),
            throttle=throttle or AdaptiveThrottle(),
            environment=around,
        )
        self.call = Call(
            id="r", method="m", received_s=0.0, deadline_s=deadline_s, deadline_reason=Reason.CALLER_DEADLINE,
            upstream_key=Secret("k"),
        )  # fmt: skip

    async def _sleep(self, seconds):
        self.waits.append((seconds, self.provider.open))
        self.now_s += seconds

    async def complete(self, **fields):
        return await self.attempts.complete(asking(**fields), self.call)

    async def stream(self, **fields):
        async with self.attempts.stream(asking(**fields), self.call) as stream:
            return [events async for events in stream]


def asking(model="m", **fields):
    return service.CompleteRequest(model=model, **fields)


async def failing(awaitable):
    with pytest.raises(ServiceError) as caught:
        await awaitable
    return caught.value.reason


async def test_a_busy_provider_is_asked_again():
    """Two failures, two waits that double, an answer."""
    bench = Bench(Provider(BUSY, BUSY))

    assert "1" == (await bench.complete()).id
    assert [0.25, 0.5] == [seconds for seconds, _ in bench.waits]


async def test_the_last_failure_is_the_answer():
    """After the last retry its error is raised."""
    bench = Bench(Provider(BUSY, BUSY, Reason.UPSTREAM_BAD_GATEWAY))

    assert Reason.UPSTREAM_BAD_GATEWAY is await failing(bench.complete())
    assert 3 == bench.provider.asked


async def test_a_stream_is_asked_again_before_its_first_event():
    """The failed attempt's connection is released before the wait."""
    bench = Bench(Provider(BUSY))

    assert [STARTED, MORE] == await bench.stream()
    assert [(0.25, 0)] == bench.waits
    assert 0 == bench.provider.open


async def test_a_stream_is_never_asked_again_after_its_first_event():
    """What was handed on cannot be taken back."""
    bench = Bench(Provider(breaks_off=BUSY))

    assert BUSY is await failing(bench.stream())
    assert 1 == bench.provider.asked


async def test_a_fallback_comes_before_a_retry():
    """With a fallback left, what it would take over is not tried again."""
    bench = Bench(Provider(BUSY))

    assert BUSY is await failing(bench.complete(fallback_models=["other"]))
    assert BUSY is await failing(Bench(Provider(BUSY)).stream(fallback_models=["other"]))
    assert 1 == bench.provider.asked


async def test_a_failure_that_no_fallback_takes_over_is_tried_again():
    """A refused connection is not the model's fault."""
    bench = Bench(Provider(Reason.UPSTREAM_CONNECT_FAILED))

    assert "1" == (await bench.complete(fallback_models=["other"])).id


async def test_no_wait_goes_beyond_the_deadline():
    """A caller whose time is nearly up is answered now."""
    bench = Bench(Provider(BUSY), deadline_s=0.2)

    assert BUSY is await failing(bench.complete())
    assert [] == bench.waits


async def test_the_budget_bounds_retries_over_all_calls():
    """When everything fails at once, retries stay a tenth of the calls and the floor."""
    bench = Bench(Provider(*[Reason.UPSTREAM_CONFLICT] * 10_000), policy=RetryPolicy(first_delay_s=0.0))
    for number in range(1000):
        await failing(bench.complete(model=f"m{number}"))

    assert 1000 + 100 + 10 == bench.provider.asked


async def test_a_provider_that_is_down_is_not_asked():
    """With the throttle open a call is answered without a request."""
    bench = Bench(Provider(*[BUSY] * 1000), policy=RetryPolicy(retries_max=0))
    for _ in range(200):
        await failing(bench.complete())
    before = bench.provider.asked
    bench.chance = 0.5

    assert BUSY is await failing(bench.complete())
    assert before == bench.provider.asked


async def test_a_refusal_of_the_breaker_is_the_answer_at_once():
    """It is not tried again: nothing was sent, and the next word of the throttle would be the same."""
    bench = Bench(Provider(*[BUSY] * 1000), policy=RetryPolicy(first_delay_s=0.0))
    for _ in range(200):
        await failing(bench.complete())
    before, waits = bench.provider.asked, len(bench.waits)
    bench.chance = 0.5

    assert BUSY is await failing(bench.complete())
    assert BUSY is await failing(bench.stream())
    assert (before, waits) == (bench.provider.asked, len(bench.waits))


async def test_a_probe_is_not_tried_again():
    """While most requests fail, a caller whose request is let through is not kept waiting for more of them."""
    bench = Bench(Provider(*[BUSY] * 1000), policy=RetryPolicy(first_delay_s=0.0))
    for _ in range(200):
        await failing(bench.complete())
    asked, waits = bench.provider.asked, len(bench.waits)

    assert BUSY is await failing(bench.complete())
    assert (asked + 1, waits) == (bench.provider.asked, len(bench.waits))
