"""Meters each attempt: reserves what it may use before it is sent, and settles what it has used afterwards.

A `Chat` around the provider, inside the retries, so that each attempt is one call of it. An attempt ends
in one of four ways:

    completed          the provider's usage is settled
    never sent         nothing is settled; so too if the provider declined the work
    broke off          the input is estimated by the model's observed bytes per token, and the output by
                       the deltas received: what the provider will probably bill. A stream that was
                       opened ends so however it fails, because its tokens were generated
    does not fit       CALLER_QUOTA, and nothing is sent

The sums of a call are in `Call.billed`. Prices are those at the time of the reservation, of the model
that the request names.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Self, final

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_server.calls.input_ratio import InputRatios
from togetherchat_server.calls.token_bounds import InputSize, choices, input_size
from togetherchat_server.domain.call import Billed, Call, EventBatch, Progress
from togetherchat_server.domain.ports import BatchStream, Chat
from togetherchat_server.domain.reasons import AttemptClass, Reason, ServiceError
from togetherchat_server.models.price_list import Price
from togetherchat_server.models.pricing import tokens_cost
from togetherchat_server.tenants.quota import Reservation, TenantQuota
from togetherchat_server.tenants.quota_store import Claim
from togetherchat_server.tenants.tenants_file import UNLIMITED, TenantLimits

UNKNOWN_OUTPUT_TOKENS: Final = 8_192
"""The `max_tokens` that a budget sends for a model whose limits are not known."""

_NOT_BILLED: Final = frozenset({AttemptClass.NOT_SENT, AttemptClass.DECLINED})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What is known of models: prices, and entries of the catalog."""

    price: Price
    entry: Callable[[str], models.Model | None]


@final
class MeteringChat:
    """A `Chat` that wraps another. `quota` is None where callers have no tenants."""

    def __init__(
        self, chat: Chat, *, facts: ModelFacts, quota: TenantQuota | None, output_reserve_tokens: int
    ) -> None:
        """`output_reserve_tokens`: what a limit of tokens expects of a call without `max_tokens`."""
        self._chat = chat
        self._facts = facts
        self._quota = quota
        self._output_reserve_tokens = output_reserve_tokens
        self._ratios = InputRatios()

    async def complete(self, request: service.CompleteRequest, call: Call) -> service.CompleteResponse:
        attempt = await self._begin(request, call)
        try:
            response = await self._chat.complete(attempt.request, call)
        except BaseException as error:
            attempt.broke_off(error)
            raise
        attempt.completed(response.usage)
        return response

    async def stream(self, request: service.CompleteRequest, call: Call) -> BatchStream:
        attempt = await self._begin(request, call)
        try:
            batches = await self._chat.stream(attempt.request, call)
        except BaseException as error:
            attempt.broke_off(error)
            raise
        return _MeteredStream(batches, attempt, call.progress)

    async def _begin(self, request: service.CompleteRequest, call: Call) -> "_Attempt":
        size = input_size(request)
        price = self._facts.price(request.model)
        limits = UNLIMITED if self._quota is None else self._quota.limits_of(call.tenant)
        reservation = None
        call.progress.warnings = ()
        if limits.has_budget or limits.tokens_per_minute:
            assert self._quota is not None  # noqa: S101  without it there are no limits
            bounded = self._bounded(request, size) if limits.has_budget else request
            claim = self._claim(bounded, size, price, limits, call)
            reservation = await self._quota.reserve(call, claim, limits)
            if bounded is not request:
                call.progress.warnings = (_bound_warning(bounded.max_tokens, call.tenant),)
                request = bounded
        return _Attempt(
            request,
            call,
            size=size,
            price=price,
            quota=self._quota,
            reservation=reservation,
            ratios=self._ratios,
        )

    def _bounded(self, request: service.CompleteRequest, size: InputSize) -> service.CompleteRequest:
        """Return the request with `max_tokens`: without it, its cost has no bound."""
        if request.HasField("max_tokens"):
            return request
        entry = self._facts.entry(request.model)
        context = entry.context_length if entry is not None else 0
        most = entry.max_output_tokens if entry is not None else 0
        if context:
            rest = max(1, context - size.most_tokens(context))
            # The bound of the input may be all of the context, although the input is not.
            usual_rest = max(1, context - 2 * size.usual_tokens())
            most = min(most or context, max(rest, usual_rest))
        bounded = service.CompleteRequest()
        bounded.CopyFrom(request)
        bounded.max_tokens = most or UNKNOWN_OUTPUT_TOKENS
        return bounded

    def _claim(
        self,
        request: service.CompleteRequest,
        size: InputSize,
        price: models.Pricing | None,
        limits: TenantLimits,
        call: Call,
    ) -> Claim:
        """Return what an attempt may use.

        Raises:
            ServiceError: MODEL_NOT_ALLOWED, the tenant has a budget and the model has no price.
        """
        output = request.max_tokens if request.HasField("max_tokens") else self._output_reserve_tokens
        usual = size.usual_tokens() + output * choices(request)
        if not limits.has_budget:
            return Claim(tokens=usual)
        entry = self._facts.entry(request.model)
        context = entry.context_length if entry is not None else 0
        most = None
        if price is not None:
            most = tokens_cost(price, size.most_tokens(context), output * choices(request))
        if most is None:
            if limits.unpriced_models == "reject":
                raise ServiceError(
                    Reason.MODEL_NOT_ALLOWED,
                    f"tenant {call.tenant} has a budget, and model {request.model} has no known price; "
                    'add a table [prices."MODEL"] to the tenants file',
                )
            most = 0
        return Claim(tokens=usual, nano_usd=most)


def _bound_warning(max_tokens: int, tenant: str) -> str:
    return (
        f"max_tokens {max_tokens} was sent, because tenant {tenant} has a budget: set max_tokens to choose "
        "another number."
    )


@final
class _Attempt:
    """One attempt that has been reserved. Settles once, whatever happens."""

    __slots__ = (
        "_call",
        "_price",
        "_quota",
        "_ratios",
        "_reservation",
        "_settled",
        "_size",
        "request",
    )

    def __init__(  # noqa: PLR0913  the parts of an attempt, all by keyword
        self,
        request: service.CompleteRequest,
        call: Call,
        *,
        size: InputSize,
        price: models.Pricing | None,
        quota: TenantQuota | None,
        reservation: Reservation | None,
        ratios: InputRatios,
    ) -> None:
        self.request = request
        self._call = call
        self._size = size
        self._price = price
        self._quota = quota
        self._reservation = reservation
        self._ratios = ratios
        self._settled = False

    def completed(self, usage: chat.Usage) -> None:
        """Settle what the provider reported."""
        input_tokens = usage.prompt_tokens
        if not usage.estimated:
            self._ratios.observe(self.request.model, self._size, input_tokens)
        elif not input_tokens:
            input_tokens = self._ratios.estimate(self.request.model, self._size)
        self._settle(
            _Used(
                input_tokens=input_tokens,
                output_tokens=usage.completion_tokens,
                cached_tokens=usage.cached_tokens,
                reasoning_tokens=usage.reasoning_tokens,
                estimated=usage.estimated,
            )
        )

    def broke_off(self, error: BaseException | None) -> None:
        """Settle an attempt without a usage. `error` is None if the caller left the stream."""
        progress = self._call.progress
        declined = isinstance(error, ServiceError) and error.attempt_class in _NOT_BILLED
        if declined or not progress.billable:
            self._settle(_Used())
            return
        self._settle(
            _Used(
                input_tokens=self._ratios.estimate(self.request.model, self._size),
                output_tokens=progress.output_deltas,
                estimated=True,
            )
        )

    def _settle(self, used: "_Used") -> None:
        if self._settled:
            return
        self._settled = True
        cost = None
        if self._price is not None:
            cost = tokens_cost(self._price, used.input_tokens, used.output_tokens, used.cached_tokens)
        _add(self._call.billed, used, cost)
        if self._reservation is not None:
            self._reservation.settle(Claim(tokens=used.tokens, nano_usd=cost or 0))
        elif cost and self._quota is not None and self._call.tenant:
            self._quota.spent(self._call, cost)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Used:
    """What an attempt has used."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


def _add(billed: Billed, used: _Used, cost: int | None) -> None:
    billed.input_tokens += used.input_tokens
    billed.output_tokens += used.output_tokens
    billed.cached_tokens += used.cached_tokens
    billed.reasoning_tokens += used.reasoning_tokens
    billed.cost_nano_usd += cost or 0
    if used.estimated:
        billed.estimated = True
        billed.estimated_cost_nano_usd += cost or 0
    if cost is None and used.tokens:
        billed.unpriced = True


@final
class _MeteredStream:
    """A stream whose attempt is settled when it is closed. Its iteration adds no coroutine."""

    __slots__ = ("_attempt", "_batches", "_progress")

    def __init__(self, batches: BatchStream, attempt: _Attempt, progress: Progress) -> None:
        self._batches = batches
        self._attempt = attempt
        self._progress = progress

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[EventBatch]:
        return anext(self._batches)

    async def aclose(self) -> None:
        try:
            await self._batches.aclose()
        finally:
            if self._progress.usage is not None:
                self._attempt.completed(self._progress.usage)
            else:
                self._attempt.broke_off(None)
