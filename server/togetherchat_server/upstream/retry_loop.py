"""A `Chat` before a `Chat`: asks again where that is safe, and does not ask where it is vain.

Owns the loop environment attempts; whether and when is decided in `retry` and `throttle`. Until the
first batch of a stream is in hand nothing was handed on, and an attempt can be replaced by
another; from then on it cannot. Where the request names a fallback, the fallback comes before
a retry: what it would take over is not tried again here. What the throttle refuses is answered
at once, and not tried again either.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import final

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.call import Call, EventBatch
from togetherchat_server.domain.ports import Chat
from togetherchat_server.domain.reasons import FALLS_BACK, ServiceError
from togetherchat_server.upstream.adaptive_throttle import AdaptiveThrottle
from togetherchat_server.upstream.retry_policy import RetryBudget, RetryPolicy, decide


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryEnvironment:
    """Time and chance, so that a test can be both."""

    clock: Callable[[], float]
    random: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@final
class RetryingChat:
    """Retries, their budget, and the throttle."""

    def __init__(
        self,
        chat: Chat,
        *,
        policy: RetryPolicy,
        budget: RetryBudget,
        throttle: AdaptiveThrottle,
        environment: RetryEnvironment,
    ) -> None:
        self._chat = chat
        self._policy = policy
        self._budget = budget
        self._throttle = throttle
        self._environment = environment

    async def complete(self, request: service.CompleteRequest, call: Call) -> service.CompleteResponse:
        self._begin()
        attempt = 1
        while True:
            self._admit(request, call)
            try:
                response = await self._chat.complete(request, call)
            except ServiceError as error:
                await self._wait_or_raise(error, attempt, request, call)
                attempt += 1
            else:
                self._succeeded(request, call)
                return response

    @asynccontextmanager
    async def stream(
        self, request: service.CompleteRequest, call: Call
    ) -> AsyncGenerator[AsyncIterator[EventBatch]]:
        self._begin()
        attempt = 1
        while True:
            self._admit(request, call)
            async with AsyncExitStack() as stack:
                try:
                    batches = await stack.enter_async_context(self._chat.stream(request, call))
                    first = await anext(batches)
                except ServiceError as error:
                    failure = error
                else:
                    self._succeeded(request, call)
                    yield await stack.enter_async_context(aclosing(_whole(first, batches)))
                    return
            # Out of the context: the failed attempt's connection is released before the wait.
            await self._wait_or_raise(failure, attempt, request, call)
            attempt += 1

    def _begin(self) -> None:
        self._budget.note_first_attempt(self._environment.clock())

    def _admit(self, request: service.CompleteRequest, call: Call) -> None:
        """Ask the throttle. Its refusal is final: to wait and ask it again would spend the budget of
        retries on requests that are never sent.
        """
        environment = self._environment
        self._throttle.admit(_pair(request, call), now_s=environment.clock(), fraction=environment.random())

    def _succeeded(self, request: service.CompleteRequest, call: Call) -> None:
        self._throttle.succeeded(_pair(request, call), now_s=self._environment.clock())

    async def _wait_or_raise(
        self, error: ServiceError, attempt: int, request: service.CompleteRequest, call: Call
    ) -> None:
        environment = self._environment
        self._throttle.failed(_pair(request, call), error, now_s=environment.clock())
        if request.fallback_models and error.reason in FALLS_BACK:
            raise error
        if call.progress.output_pieces:  # made, and billed, although nobody has seen it
            raise error
        if self._throttle.is_open(_pair(request, call), now_s=environment.clock()):
            raise error  # a probe: another attempt would keep its caller waiting for the same
        wait_s = decide(
            error,
            attempt=attempt,
            seconds_left=call.seconds_left(environment.clock()),
            fraction=environment.random(),
            policy=self._policy,
        )
        if wait_s is None or not self._budget.spend(environment.clock()):
            raise error
        await environment.sleep(wait_s)


def _pair(request: service.CompleteRequest, call: Call) -> tuple[str, str]:
    key = call.upstream_key
    return ("" if key is None else key.fingerprint(), request.model)


async def _whole(first: EventBatch, rest: AsyncIterator[EventBatch]) -> AsyncGenerator[EventBatch]:
    yield first
    async for events in rest:
        yield events
