"""Which model answers: the one asked for, or the next of its fallbacks; and what it costs.

A fallback takes over when the model before it is not callable, retired, rate limited or
overloaded, and only while nothing of an answer has been sent to the caller.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import final

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_server.catalog.cost import cost_nano_usd
from togetherchat_server.errors import FALLS_BACK, ServiceError
from togetherchat_server.ports import Call, Chat, Events


@final
class Router:
    """A `Chat` before a `Chat`: chooses the model, fills in cost and timings."""

    def __init__(
        self, chat: Chat, *, price: Callable[[str], models.Pricing | None], clock: Callable[[], float]
    ) -> None:
        self._chat = chat
        self._price = price
        self._clock = clock

    async def complete(self, request: service.CompleteRequest, call: Call) -> service.CompleteResponse:
        last: ServiceError | None = None
        for candidate in _candidates(request, call):
            try:
                response = await self._chat.complete(candidate, call)
            except ServiceError as error:
                if error.kind not in FALLS_BACK:
                    raise
                last = error
            else:
                self._account(response.usage, candidate.model, call)
                response.usage.timings.ClearField("first_token_ms")
                return response
        raise _exhausted(last)

    @asynccontextmanager
    async def stream(
        self, request: service.CompleteRequest, call: Call
    ) -> AsyncGenerator[AsyncIterator[Events]]:
        last: ServiceError | None = None
        for candidate in _candidates(request, call):
            async with AsyncExitStack() as stack:
                try:
                    batches = await stack.enter_async_context(self._chat.stream(candidate, call))
                    first = await anext(batches)
                except ServiceError as error:
                    if error.kind not in FALLS_BACK:
                        raise
                    last = error
                    continue
                accounted = self._accounted(first, batches, candidate.model, call)
                yield await stack.enter_async_context(aclosing(accounted))
                return
        raise _exhausted(last)

    async def _accounted(
        self, first: Events, rest: AsyncIterator[Events], model: str, call: Call
    ) -> AsyncGenerator[Events]:
        self._account_last(first, model, call)
        yield first
        async for events in rest:
            self._account_last(events, model, call)
            yield events

    def _account_last(self, events: Events, model: str, call: Call) -> None:
        if events and events[-1].HasField("completed"):
            self._account(events[-1].completed.usage, model, call)

    def _account(self, usage: chat.Usage, model: str, call: Call) -> None:
        price = self._price(model)
        cost = cost_nano_usd(usage, price) if price is not None else None
        if cost is not None:
            usage.cost_nano_usd = cost
        usage.timings.queue_ms = _milliseconds(call.progress.queued_s)
        first_s = call.progress.first_event_s
        if first_s is not None:
            usage.timings.first_token_ms = _milliseconds(first_s - call.received_s)
        usage.timings.total_ms = _milliseconds(self._clock() - call.received_s)


def _candidates(request: service.CompleteRequest, call: Call) -> Iterator[service.CompleteRequest]:
    """The request for each model in turn, naming the fallbacks that are still left to it."""
    call.progress.model = request.model
    yield request
    for place, model in enumerate(request.fallback_models, start=1):
        call.progress.model = model
        candidate = service.CompleteRequest()
        candidate.CopyFrom(request)
        candidate.model = model
        candidate.fallback_models[:] = request.fallback_models[place:]
        yield candidate


def _exhausted(last: ServiceError | None) -> ServiceError:
    assert last is not None  # noqa: S101  there is always a first candidate
    return last


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))
