"""Retries failed attempts when that is safe, within the retry budget and the caller's deadline.

Owns the loop around attempts; `retry_policy` and `adaptive_throttle` decide. Before the first batch of
a stream is received, nothing was passed on and an attempt can be replaced; afterwards it cannot. If
the request names a fallback model, the fallback is tried instead of a retry: a failure that a fallback
can take over is not retried here. A request that the throttle rejects fails at once, without a retry.
A retry that the caller's quota rejects ends the call with the failure before it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar, final

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.call import Call
from togetherchat_server.domain.ports import BatchStream, Chat
from togetherchat_server.domain.reasons import FALLS_BACK, Reason, ServiceError, without_frames
from togetherchat_server.upstream.adaptive_throttle import AdaptiveThrottle
from togetherchat_server.upstream.retry_policy import RetryBudget, RetryPolicy, decide

Result = TypeVar("Result")
Attempt: TypeAlias = Callable[[service.CompleteRequest, Call], Awaitable[Result]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryEnvironment:
    """Clock, random source and sleep, replaced in tests."""

    clock: Callable[[], float]
    random: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@final
class RetryingChat:
    """Wraps a `Chat` with retries, their budget, and the adaptive throttle."""

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
        return await self._retried(self._chat.complete, request, call)

    async def stream(self, request: service.CompleteRequest, call: Call) -> BatchStream:
        return await self._retried(self._chat.stream, request, call)

    async def _retried(
        self, attempt: Attempt[Result], request: service.CompleteRequest, call: Call
    ) -> Result:
        environment = self._environment
        self._budget.record_first_attempt(environment.clock())
        number = 1
        previous: ServiceError | None = None
        while True:
            self._admit(request, call)
            try:
                result = await attempt(request, call)
            except ServiceError as error:
                if previous is not None and error.reason is Reason.CALLER_QUOTA:
                    raise previous from None
                await self._wait_or_raise(error, number, request, call)
                previous = without_frames(error)
                number += 1
            else:
                self._throttle.succeeded(_pair(request, call), now_s=environment.clock())
                return result

    def _admit(self, request: service.CompleteRequest, call: Call) -> None:
        """Check the throttle. Its rejection is final: retrying would spend the retry budget on
        requests that are never sent.
        """
        environment = self._environment
        self._throttle.admit(_pair(request, call), now_s=environment.clock(), fraction=environment.random())

    async def _wait_or_raise(
        self, error: ServiceError, attempt: int, request: service.CompleteRequest, call: Call
    ) -> None:
        environment = self._environment
        self._throttle.failed(_pair(request, call), error, now_s=environment.clock())
        if request.fallback_models and error.reason in FALLS_BACK:
            raise error
        if call.progress.output_deltas:  # generated, and billed, although the caller received nothing
            raise error
        if self._throttle.is_open(_pair(request, call), now_s=environment.clock()):
            raise error  # a probe: a retry would make its caller wait for the same failure
        delay_s = decide(
            error,
            attempt=attempt,
            seconds_left=call.seconds_left(environment.clock()),
            fraction=environment.random(),
            policy=self._policy,
        )
        if delay_s is None or not self._budget.spend(environment.clock()):
            raise error
        without_frames(error)
        await environment.sleep(delay_s)


def _pair(request: service.CompleteRequest, call: Call) -> tuple[str, str]:
    key = call.upstream_key
    return ("" if key is None else key.fingerprint(), request.model)
