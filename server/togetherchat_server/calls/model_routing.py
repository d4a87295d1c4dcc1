"""Chooses the model of each attempt: the requested one or a fallback. Computes the cost and timings.

A name in a request may be an alias. A fallback model is tried when the model before it is not
callable, retired, rate limited or overloaded, and only before any output was sent to the caller. If
the caller names no fallback, and the provider rejects a model for which the catalog names a
successor, the successor is tried. The completion's `warnings` name every model that was used in
place of the requested one; its `model` is the one that served.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Self, final

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_server.domain.call import Call, EventBatch
from togetherchat_server.domain.ports import BatchStream, Chat
from togetherchat_server.domain.reasons import FALLS_BACK, Reason, ServiceError, without_frames
from togetherchat_server.models.aliases import NO_ALIASES, ModelAliases
from togetherchat_server.models.pricing import cost_nano_usd
from togetherchat_server.models.unavailable import UnavailableModels

_NOT_FOUND: Final = frozenset({Reason.MODEL_NOT_FOUND})
_NEVER: Final = frozenset[Reason]()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """One model to try, with the warnings that its completion carries."""

    request: service.CompleteRequest
    warnings: tuple[str, ...]
    falls_back_after: frozenset[Reason]
    """The failures after which the next candidate is tried."""

    @property
    def model(self) -> str:
        return self.request.model


@final
class RoutingChat:
    """A `Chat` that wraps another: chooses the model, and fills in cost and timings.

    Models that the provider rejects are recorded in `unavailable`.
    """

    def __init__(
        self,
        chat: Chat,
        *,
        price: Callable[[str], models.Pricing | None],
        clock: Callable[[], float],
        names: ModelAliases = NO_ALIASES,
        unavailable: UnavailableModels | None = None,
        permits: Callable[[Call, str], bool] | None = None,
    ) -> None:
        """A successor is tried only if `permits(call, model)` allows it."""
        self._chat = chat
        self._price = price
        self._clock = clock
        self._names = names
        self._unavailable = unavailable if unavailable is not None else UnavailableModels(clock=clock)
        self._permits = permits

    async def complete(self, request: service.CompleteRequest, call: Call) -> service.CompleteResponse:
        last: ServiceError | None = None
        for candidate in self._candidates(request, call):
            try:
                response = await self._chat.complete(candidate.request, call)
            except ServiceError as error:
                last = self._failed(error, last, candidate, call)
            else:
                self._served(candidate, call)
                self._add_cost(response.usage, (response.model, candidate.model))
                self._add_timings(response.timings, call)
                response.warnings.extend(_warnings(candidate, call))
                return response
        raise _exhausted(last)

    async def stream(self, request: service.CompleteRequest, call: Call) -> BatchStream:
        last: ServiceError | None = None
        for candidate in self._candidates(request, call):
            try:
                batches = await self._chat.stream(candidate.request, call)
            except ServiceError as error:
                last = self._failed(error, last, candidate, call)
            else:
                self._served(candidate, call)
                return _AccountedStream(batches, partial(self._account_last, candidate, call))
        raise _exhausted(last)

    def _candidates(self, request: service.CompleteRequest, call: Call) -> Iterator[_Candidate]:
        """Yield the request for each model in turn. The next one is needed if the last has failed."""
        call.progress.model_requested = request.model
        names = [request.model, *request.fallback_models]
        ids = [self._names.resolve(name) for name in names]
        successor = self._names.replacements.get(ids[0]) if len(ids) == 1 else None
        if successor and self._permits is not None and not self._permits(call, successor):
            successor = None
        for_last = _NOT_FOUND if successor else _NEVER
        for position, (name, model) in enumerate(zip(names, ids, strict=True), start=1):
            call.progress.model = model
            yield _Candidate(
                request=_with_model(request, model, ids[position:]),
                warnings=_alias_warnings(name, model),
                falls_back_after=FALLS_BACK if ids[position:] else for_last,
            )
        if successor:
            replaced = f"The provider rejected {ids[0]}; its successor {successor} was used instead."
            call.progress.model = successor
            yield _Candidate(
                request=_with_model(request, successor, []),
                warnings=(*_alias_warnings(names[0], ids[0]), replaced),
                falls_back_after=_NEVER,
            )

    def _failed(
        self, error: ServiceError, last: ServiceError | None, candidate: _Candidate, call: Call
    ) -> ServiceError:
        """Return the failure if another model may be tried; raise it if it is final.

        A fallback that the caller's quota rejects ends the call with the failure before it.
        """
        if last is not None and error.reason is Reason.CALLER_QUOTA:
            raise last from None
        if error.reason in _NOT_FOUND:
            self._unavailable.add(call.key_fingerprint(), candidate.model)
        if error.reason not in candidate.falls_back_after:
            raise error
        return without_frames(error)

    def _served(self, candidate: _Candidate, call: Call) -> None:
        if self._unavailable:
            self._unavailable.discard(call.key_fingerprint(), candidate.model)

    def _account_last(
        self, candidate: _Candidate, call: Call, completed: service.Completed, served: str
    ) -> None:
        self._add_cost(completed.usage, (served, candidate.model))
        self._add_timings(completed.timings, call)
        _add_first_token(completed.timings, call)
        completed.warnings.extend(_warnings(candidate, call))

    def _add_cost(self, usage: chat.Usage, ids: tuple[str, str]) -> None:
        """Fill in the cost.

        The price is that of the model which served, since a provider that redirects a request bills
        the model it redirects to. If that price is unknown, the requested model's price is used.
        """
        prices = (self._price(model) for model in ids)
        price = next((price for price in prices if price is not None), None)
        cost = cost_nano_usd(usage, price) if price is not None else None
        if cost is not None:
            usage.cost_nano_usd = cost

    def _add_timings(self, timings: chat.Timings, call: Call) -> None:
        timings.queue_duration.FromMicroseconds(_microseconds(call.progress.queued_s))
        timings.total_duration.FromMicroseconds(_microseconds(self._clock() - call.received_s))


@final
class _AccountedStream:
    """A stream whose last batch is completed before it is passed on."""

    __slots__ = ("_account", "_batches", "_served")

    def __init__(self, batches: BatchStream, account: Callable[[service.Completed, str], None]) -> None:
        """`account` receives the stream's `completed`, and the model that served."""
        self._batches = batches
        self._account = account
        self._served = ""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> EventBatch:
        events = await anext(self._batches)
        if events:
            self._served = self._served or events[0].started.model
            if events[-1].HasField("completed"):
                self._account(events[-1].completed, self._served)
        return events

    async def aclose(self) -> None:
        await self._batches.aclose()


def _add_first_token(timings: chat.Timings, call: Call) -> None:
    first_s = call.progress.first_event_s
    if first_s is not None:
        timings.first_token_duration.FromMicroseconds(_microseconds(first_s - call.received_s))


def _with_model(
    request: service.CompleteRequest, model: str, fallbacks: Sequence[str]
) -> service.CompleteRequest:
    """Return a copy of the request for another model; the request itself if nothing differs."""
    if request.model == model and request.fallback_models == fallbacks:
        return request
    changed = service.CompleteRequest()
    changed.CopyFrom(request)
    changed.model = model
    changed.fallback_models[:] = fallbacks
    return changed


def _alias_warnings(name: str, model: str) -> tuple[str, ...]:
    return () if name == model else (f"{name} is an alias of this service; {model} was used.",)


def _warnings(candidate: _Candidate, call: Call) -> list[chat.Warning]:
    return [chat.Warning(message=text) for text in (*candidate.warnings, *call.progress.warnings)]


def _exhausted(last: ServiceError | None) -> ServiceError:
    assert last is not None  # noqa: S101  there is always a first candidate
    return last


def _microseconds(seconds: float) -> int:
    return max(0, round(seconds * 1e6))
