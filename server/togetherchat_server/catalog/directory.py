"""Answers ListModels: the provider's list, remembered for a while, over the catalogue.

Owns what is remembered of the provider's list for each upstream key, and when it is read
again. Knows nothing of HTTP, and no chat call waits for it.

Keys are kept apart: a caller's private models, and a key that the provider refuses, are
nobody else's matter. Callers who want the same list at the same time share one reading of it,
which runs in a task of its own, so that one who leaves takes it from nobody. When the last of
them has left it is given up: a reading never outlives the calls that want it.
"""

import asyncio
import dataclasses
import datetime as dt
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_server.catalog.catalog import Catalog, merge, merged_pricing
from togetherchat_server.catalog.listing import check, page
from togetherchat_server.errors import Kind, ServiceError
from togetherchat_server.ports import Call, LiveModels

_KEY_REJECTED: Final = frozenset({Kind.CALLER_KEY_REJECTED, Kind.SERVICE_KEY_REJECTED})
_PATIENCE: Final = 0.8
"""The share of a caller's remaining time that is spent on waiting; the rest is for the answer
from what is known already, which is better than none."""


@dataclass(slots=True, kw_only=True)
class _Reading:
    """One reading of the provider's list, and how many calls wait for it."""

    task: asyncio.Task[None]
    waiting: int = 0


@dataclass(slots=True, kw_only=True)
class _Known:
    """What is remembered for one upstream key."""

    live: Sequence[models.Model] | None = None
    """The last list that was read."""
    read_s: float = -math.inf
    """When, on the monotonic clock."""
    read_at_s: float = 0.0
    """When, since 1970."""
    failure: ServiceError | None = None
    """Why the last reading failed; None after one that did not."""
    failed_s: float = -math.inf
    reading: _Reading | None = field(default=None, repr=False)


@final
class ModelDirectory:
    """A `ModelListing` over a `LiveModels` and a catalogue.

    `aliases` maps a name of ours to a model id. A list is fresh for `fresh_s`; after a failure
    the provider is left alone for `fail_s`; a reading takes `fetch_s` at most. What is known is
    remembered for the `keys_max` upstream keys that were used last. `clock` is the monotonic
    clock of the calls' deadlines, `wall_clock` gives seconds since 1970.
    """

    def __init__(  # noqa: PLR0913  two sources, two clocks, and bounds with names
        self,
        provider: LiveModels,
        catalog: Catalog,
        *,
        aliases: Mapping[str, str],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        fresh_s: float = 300.0,
        fetch_s: float = 10.0,
        fail_s: float = 15.0,
        keys_max: int = 256,
    ) -> None:
        self._provider = provider
        self._catalog = catalog
        self._aliases = aliases
        self._clock = clock
        self._wall_clock = wall_clock
        self._fresh_s = fresh_s
        self._fetch_s = fetch_s
        self._fail_s = fail_s
        self._keys_max = keys_max
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._live_prices: Mapping[str, models.Pricing] = {}

    async def list_models(self, request: service.ListModelsRequest, call: Call) -> service.ListModelsResponse:
        """One page.

        Raises:
            ServiceError: INVALID_REQUEST for a bad request, before the provider is asked;
                CALLER_KEY_REJECTED when the provider refuses the key that the caller brought.
        """
        check(request)
        known = self._known_for(call)
        asked_s = self._clock()
        if not self._is_current(known, asked_s) and asked_s - known.failed_s >= self._fail_s:
            await self._wait_for_reading(known, call)
        _raise_if_rejected(known, call)
        return self._answer(request, known, current=self._is_current(known, asked_s))

    def price(self, model_id: str) -> models.Pricing | None:
        """What `model_id` costs; the message is not to be changed. Never waits.

        By the last list that was read with the service's own key, whatever its age, since it
        is newer than the catalogue that shipped; else by the catalogue. Lists of keys that
        callers brought do not count: their models may be private.
        """
        live = self._live_prices.get(model_id)
        return live if live is not None else self._catalog.price(model_id)

    async def aclose(self) -> None:
        """Give up the readings that are under way. Their callers get what is known already."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _known_for(self, call: Call) -> _Known:
        key = call.upstream_key.fingerprint() if call.upstream_key is not None else ""
        known = self._known.setdefault(key, _Known())
        self._known.move_to_end(key)
        while len(self._known) > self._keys_max:
            self._known.popitem(last=False)
        return known

    def _is_current(self, known: _Known, asked_s: float) -> bool:
        """Whether the list was fresh when the caller asked, or has been read since."""
        return asked_s - known.read_s < self._fresh_s or known.read_s >= asked_s

    async def _wait_for_reading(self, known: _Known, call: Call) -> None:
        reading = known.reading or self._start_reading(known, call)
        reading.waiting += 1
        try:
            # Unlike awaiting the task, `wait` leaves it running when this caller is cancelled.
            await asyncio.wait({reading.task}, timeout=max(0.0, call.seconds_left(self._clock()) * _PATIENCE))
        finally:
            reading.waiting -= 1
            if reading.waiting == 0 and not reading.task.done():
                reading.task.cancel()
                _forget(known, reading)
        if reading.task.done() and not reading.task.cancelled():
            reading.task.result()  # a defect is the caller's to see, as in its own code

    def _start_reading(self, known: _Known, call: Call) -> _Reading:
        task = asyncio.create_task(self._read(known, call), name="read the provider's list of models")
        reading = _Reading(task=task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: _forget(known, reading))
        known.reading = reading
        return reading

    async def _read(self, known: _Known, call: Call) -> None:
        """Ask the provider, for as long as `fetch_s` and not the first caller's deadline allows."""
        ours = dataclasses.replace(
            call, deadline_s=self._clock() + self._fetch_s, deadline_kind=Kind.CALL_TIMEOUT
        )
        try:
            async with asyncio.timeout(self._fetch_s):
                live = await self._provider.live_models(ours)
        except ServiceError as error:
            # A copy: the exception itself would hold its frames, and theirs hold the call.
            known.failure = ServiceError(error.kind, error.message, upstream=error.upstream)
            known.failed_s = self._clock()
        except TimeoutError:
            known.failure = ServiceError(Kind.CALL_TIMEOUT, "the provider's list took too long")
            known.failed_s = self._clock()
        else:
            known.live, known.failure = live, None
            known.read_s, known.read_at_s = self._clock(), self._wall_clock()
            if not call.caller_brought_key:
                self._live_prices = self._prices_of(live)

    def _prices_of(self, live: Sequence[models.Model]) -> dict[str, models.Pricing]:
        return {
            model.id: merged_pricing(model.pricing, self._catalog.price(model.id))
            for model in live
            if model.HasField("pricing")
        }

    def _answer(
        self, request: service.ListModelsRequest, known: _Known, *, current: bool
    ) -> service.ListModelsResponse:
        today = _day(self._wall_clock())
        response = page(merge(self._catalog, known.live, today=today, aliases=self._aliases), request)
        if known.live is not None:
            response.provider_list_time.FromNanoseconds(int(known.read_at_s * 1e9))
        if not current:
            response.warnings.append(chat.Warning(message=self._remark(known)))
        return response

    def _remark(self, known: _Known) -> str:
        why = known.failure.kind if known.failure is not None else "it did not come in time"
        if known.live is not None:
            return f"The provider's list is not to be had ({why}): these models are from its last one."
        return (
            f"The provider's list is not to be had ({why}): these models are from the catalogue alone, "
            f"as of {self._catalog.as_of}."
        )


def _forget(known: _Known, reading: _Reading) -> None:
    if known.reading is reading:
        known.reading = None


def _raise_if_rejected(known: _Known, call: Call) -> None:
    failure = known.failure
    if failure is not None and call.caller_brought_key and failure.kind in _KEY_REJECTED:
        raise ServiceError(Kind.CALLER_KEY_REJECTED, failure.message, upstream=failure.upstream)


def _day(seconds_since_1970: float) -> dt.date:
    return dt.datetime.fromtimestamp(seconds_since_1970, dt.UTC).date()
