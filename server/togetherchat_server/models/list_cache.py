"""Serves ListModels and GetModel: the provider's list, cached for a while, merged with the catalog.

Owns when the provider's list of each upstream key is fetched. Knows no HTTP, and no chat call waits for
a fetch.

Calls that need the same list at the same time share one fetch. The fetch runs in its own task, so a
call that is cancelled does not cancel it for the others. When the last waiting call has ended, the
fetch is cancelled. Only a background fetch outlives the calls that need it: one that renews a list
before it expires, or one that a call with an older list did not wait for any longer. Such a fetch ends
after `fetch_timeout_s`, or when the service stops.
"""

import asyncio
import dataclasses
import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, final

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_server.domain.call import Call, Progress
from togetherchat_server.domain.ports import LiveModels
from togetherchat_server.domain.reasons import FieldViolation, Reason, ServiceError
from togetherchat_server.models.cached_lists import CachedList, CachedLists, ListCacheLimits, ListFetch
from togetherchat_server.models.catalog import Catalog, merge, merged_pricing
from togetherchat_server.models.catalog_file import ID_CHARACTERS_MAX
from togetherchat_server.models.pagination import page, validate
from togetherchat_server.models.unavailable import UnavailableModels

_KEY_REJECTED: Final = frozenset({Reason.CALLER_KEY_REJECTED, Reason.SERVICE_KEY_REJECTED})
_WAIT_RATIO: Final = 0.8
"""The fraction of a caller's remaining time in which it waits for a fetch. In the rest it can still get
the cached list, which is better than an error."""
_RENEWAL_RATIO: Final = 0.8
"""The fraction of its fresh time after which a list is renewed in the background."""
_NAMED_MAX: Final = 10
"""Unavailable models that a warning names; further ones are counted."""


@final
class ModelListCache:
    """A `ModelListing` that combines a `LiveModels` and a catalog.

    `aliases` maps a name to a model id. `clock` is the monotonic clock of the calls' deadlines,
    `wall_clock` returns seconds since 1970. Models in `unavailable` are shown as such. A caller sees
    only the models for which `permits(call, model)` is true.
    """

    def __init__(  # noqa: PLR0913  two sources, two kinds of names, two clocks, bounds
        self,
        provider: LiveModels,
        catalog: Catalog,
        *,
        aliases: Mapping[str, str],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        unavailable: UnavailableModels | None = None,
        limits: ListCacheLimits | None = None,
        permits: Callable[[Call, str], bool] | None = None,
    ) -> None:
        self._provider = provider
        self._catalog = catalog
        self._aliases = aliases
        self._clock = clock
        self._wall_clock = wall_clock
        self._unavailable = unavailable if unavailable is not None else UnavailableModels(clock=clock)
        self._limits = limits if limits is not None else ListCacheLimits()
        self._permits = permits
        self._lists = CachedLists(self._limits)
        self._tasks: set[asyncio.Task[None]] = set()
        self._live_prices: Mapping[str, models.Pricing] = {}

    async def list_models(self, request: service.ListModelsRequest, call: Call) -> service.ListModelsResponse:
        """Return one page.

        Raises:
            ServiceError: INVALID_REQUEST, before a request to the provider; CALLER_KEY_REJECTED if the
                provider rejects the key that the caller brought.
        """
        validate(request)
        cached, is_current = await self._cached_list(call)
        response = page(self._visible(cached, call), request)
        self._describe(response, response.models, cached, call, is_current=is_current)
        return response

    async def get_model(self, request: service.GetModelRequest, call: Call) -> service.GetModelResponse:
        """Return the model with this id, else the one with this alias.

        Raises:
            ServiceError: MODEL_NOT_FOUND; and as for `list_models`.
        """
        _validate_id(request.id)
        cached, is_current = await self._cached_list(call)
        call.progress.model_requested = call.progress.model = request.id
        by_id = {model.id: model for model in self._visible(cached, call)}
        found = by_id.get(request.id) or by_id.get(self._aliases.get(request.id, ""))
        response = service.GetModelResponse(model=found)
        self._describe(response, [] if found is None else [found], cached, call, is_current=is_current)
        if found is None:
            warnings = (warning.message for warning in response.warnings)
            message = " ".join(["The list of models has no such id or alias.", *warnings])
            raise ServiceError(Reason.MODEL_NOT_FOUND, message)
        call.progress.model = found.id
        return response

    def price(self, model_id: str) -> models.Pricing | None:
        """Return the price of a model, without waiting. The message must not be changed.

        The price is that of the last list fetched with the service's own key, whatever its age, since it
        is newer than the shipped catalog; else that of the catalog. Lists of keys that callers brought
        are ignored: their models may be private.
        """
        live = self._live_prices.get(model_id)
        return live if live is not None else self._catalog.price(model_id)

    async def aclose(self) -> None:
        """Cancel the fetches in progress. Their callers get the cached lists."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _cached_list(self, call: Call) -> tuple[CachedList, bool]:
        """Return the list for the call's key, renewed if necessary, and whether it is current.

        Raises:
            ServiceError: CALLER_KEY_REJECTED.
        """
        cached = self._lists.get(call.key_fingerprint())
        now_s = self._clock()
        if now_s - cached.failed_s >= self._limits.retry_after_failure_s:
            if not self._is_current(cached, now_s):
                await self._wait_for_fetch(cached, call)
            elif now_s - cached.fetched_s >= self._limits.fresh_s * _RENEWAL_RATIO:
                self._renew_in_background(cached, call)
        _raise_if_key_rejected(cached, call)
        return cached, self._is_current(cached, now_s)

    def _is_current(self, cached: CachedList, requested_s: float) -> bool:
        """Return whether the list was fresh when the caller requested it, or was fetched since."""
        return requested_s - cached.fetched_s < self._limits.fresh_s or cached.fetched_s >= requested_s

    async def _wait_for_fetch(self, cached: CachedList, call: Call) -> None:
        fetch = cached.fetch or self._start_fetch(cached, call)
        timeout_s = max(0.0, call.seconds_left(self._clock()) * _WAIT_RATIO)
        if cached.live is not None:
            timeout_s = min(timeout_s, self._limits.stale_wait_s)
        fetch.waiting += 1
        try:
            # Unlike awaiting the task, `wait` does not cancel it when this call is cancelled.
            await asyncio.wait({fetch.task}, timeout=timeout_s)
            fetch.background = fetch.background or cached.live is not None
        finally:
            fetch.waiting -= 1
            if fetch.waiting == 0 and not fetch.background and not fetch.task.done():
                fetch.task.cancel()
                cached.forget(fetch)
        if fetch.task.done() and not fetch.task.cancelled():
            fetch.task.result()  # raises an unexpected exception in the call, as its own code would

    def _renew_in_background(self, cached: CachedList, call: Call) -> None:
        """Start to renew a list that is still fresh.

        The call will have ended before the fetch has, so the fetch gets a `Progress` of its own.
        """
        if cached.fetch is None and len(self._tasks) < self._limits.background_max:
            detached = dataclasses.replace(call, progress=Progress())
            self._start_fetch(cached, detached).background = True

    def _start_fetch(self, cached: CachedList, call: Call) -> ListFetch:
        task = asyncio.create_task(self._fetch(cached, call), name="fetch the provider's list of models")
        fetch = ListFetch(task=task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: cached.forget(fetch))
        cached.fetch = fetch
        return fetch

    async def _fetch(self, cached: CachedList, call: Call) -> None:
        """Fetch the list within `fetch_timeout_s`, whatever the first caller's deadline is."""
        timeout_s = self._limits.fetch_timeout_s
        fetch_call = dataclasses.replace(
            call, deadline_s=self._clock() + timeout_s, deadline_reason=Reason.CALL_TIMEOUT
        )
        try:
            async with asyncio.timeout(timeout_s):
                live = await self._provider.live_models(fetch_call)
        except ServiceError as error:
            # A copy: the exception itself would keep its frames alive, and with them the call.
            cached.failure = ServiceError(error.reason, error.message, upstream=error.upstream)
            cached.failed_s = self._clock()
        except TimeoutError:
            cached.failure = ServiceError(Reason.CALL_TIMEOUT, "the provider's list took too long")
            cached.failed_s = self._clock()
        else:
            self._store(live, cached, call)

    def _store(self, live: Sequence[models.Model], cached: CachedList, call: Call) -> None:
        cached.truncated = len(live) > self._limits.models_max
        cached.live, cached.failure = live[: self._limits.models_max], None
        cached.live_bytes = sum(model.ByteSize() for model in cached.live)
        cached.fetched_s, cached.fetched_at_s = self._clock(), self._wall_clock()
        self._lists.evict()
        if not call.caller_brought_key:
            self._live_prices = self._prices_of(cached.live)

    def _prices_of(self, live: Sequence[models.Model]) -> dict[str, models.Pricing]:
        return {
            model.id: merged_pricing(model.pricing, self._catalog.price(model.id))
            for model in live
            if model.HasField("pricing")
        }

    def _visible(self, cached: CachedList, call: Call) -> list[models.Model]:
        """Return the merged list without the models that the call's tenant may not use."""
        merged = merge(
            self._catalog,
            cached.live,
            today=_day(self._wall_clock()),
            aliases=self._aliases,
            unavailable=self._unavailable.of(call.key_fingerprint()),
        )
        permits = self._permits
        return merged if permits is None else [model for model in merged if permits(call, model.id)]

    def _describe(
        self,
        response: service.ListModelsResponse | service.GetModelResponse,
        shown: Iterable[models.Model],
        cached: CachedList,
        call: Call,
        *,
        is_current: bool,
    ) -> None:
        """Add the time of the provider's list and the warnings about it and about the `shown` models."""
        if cached.live is not None:
            response.provider_list_time.FromNanoseconds(int(cached.fetched_at_s * 1e9))
        warnings: list[str] = []
        if cached.truncated:
            warnings.append(
                f"The provider lists more than {self._limits.models_max} models; the rest is left out."
            )
        unavailable = self._unavailable.of(call.key_fingerprint())
        rejected = [model.id for model in shown if model.id in unavailable]
        if rejected:
            warnings.append(_unavailable_warning(rejected))
        if not is_current:
            warnings.append(self._stale_warning(cached))
        response.warnings.extend(chat.Warning(message=warning) for warning in warnings)

    def _stale_warning(self, cached: CachedList) -> str:
        why = cached.failure.reason if cached.failure is not None else "no response in time"
        if cached.live is not None:
            return f"The provider's list is unavailable ({why}): these models are from its last list."
        if not self._catalog.by_id:
            return f"The provider's list is unavailable ({why}), and the catalog is empty."
        return (
            f"The provider's list is unavailable ({why}): these models are from the catalog alone, "
            f"as of {self._catalog.as_of}."
        )


def _raise_if_key_rejected(cached: CachedList, call: Call) -> None:
    failure = cached.failure
    if failure is not None and call.caller_brought_key and failure.reason in _KEY_REJECTED:
        raise ServiceError(Reason.CALLER_KEY_REJECTED, failure.message, upstream=failure.upstream)


def _validate_id(model_id: str) -> None:
    if 1 <= len(model_id) <= ID_CHARACTERS_MAX:
        return
    violation = FieldViolation(field="id", description=f"must have 1 to {ID_CHARACTERS_MAX} characters")
    raise ServiceError(
        Reason.INVALID_REQUEST, f"{violation.field} {violation.description}", violations=(violation,)
    )


def _unavailable_warning(unavailable: Sequence[str]) -> str:
    named, more = ", ".join(unavailable[:_NAMED_MAX]), len(unavailable) - _NAMED_MAX
    others = f" and {more} more" if more > 0 else ""
    return f"The provider recently rejected calls of {named}{others}: not available with this key."


def _day(seconds_since_1970: float) -> dt.date:
    return dt.datetime.fromtimestamp(seconds_since_1970, dt.UTC).date()
