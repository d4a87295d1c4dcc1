"""Answers ListModels: the provider's list, remembered for a while, over the catalogue.

Owns what is remembered of the provider's list for each upstream key, and when it is read
again. Knows nothing of HTTP, and no chat call waits for it.

Keys are kept apart: a caller's private models, and a key that the provider refuses, are
nobody else's matter. Callers who want the same list at the same time share one reading of it,
which runs in a task of its own, so that one who leaves takes it from nobody. When the last of
them has left it is given up. What outlives the calls that want it is a reading in the
background alone: one that renews a list before it is old, or one that a caller with an older
list at hand did not wait out. Such a reading ends by itself after `fetch_s`, or with the service.
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
from togetherchat_server.domain.call import Call, Progress
from togetherchat_server.domain.ports import LiveModels
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.models.catalog import Catalog, merge, merged_pricing
from togetherchat_server.models.pagination import check, page
from togetherchat_server.models.unavailable import UnavailableModels

_KEY_REJECTED: Final = frozenset({Reason.CALLER_KEY_REJECTED, Reason.SERVICE_KEY_REJECTED})
_PATIENCE: Final = 0.8
"""The share of a caller's remaining time that is spent on waiting; the rest is for the answer
from what is known already, which is better than none."""
_RENEWED_FROM: Final = 0.8
"""The share of its time after which a list that is asked for is renewed in the background."""
_NAMED_MAX: Final = 10
"""Refused models that a remark names; it counts the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListCacheLimits:
    """How long things take and are kept, and how much of them."""

    fresh_s: float = 300.0
    """A list is taken as fresh for so long."""
    fetch_s: float = 10.0
    """A reading takes so long at most."""
    fail_s: float = 15.0
    """After a failure the provider is left alone for so long."""
    stale_wait_s: float = 1.0
    """How long a caller waits for a new list when there is an older one to answer from."""
    keys_max: int = 256
    """Upstream keys, the last used, for which a list is remembered."""
    models_max: int = 5000
    """Models of one list; the rest is left out. Together lists some hundreds."""
    bytes_max: int = 64 * 2**20
    """Size of all lists that are remembered: those used longest ago go first."""
    background_max: int = 16
    """Readings under way beyond which none is begun in the background."""


@dataclass(slots=True, kw_only=True)
class _Fetch:
    """One reading of the provider's list, and how many calls wait for it."""

    task: asyncio.Task[None]
    waiting: int = 0
    background: bool = False
    """Whether it goes on when nobody waits."""


@dataclass(slots=True, kw_only=True)
class _Entry:
    """What is remembered for one upstream key."""

    live: Sequence[models.Model] | None = None
    """The last list that was read."""
    live_bytes: int = 0
    cut: bool = False
    """Whether that list was longer than what is kept of it."""
    read_s: float = -math.inf
    """When, on the monotonic clock."""
    read_at_s: float = 0.0
    """When, since 1970."""
    failure: ServiceError | None = None
    """Why the last reading failed; None after one that did not."""
    failed_s: float = -math.inf
    reading: _Fetch | None = field(default=None, repr=False)


@final
class ModelListCache:
    """A `ModelListing` over a `LiveModels` and a catalogue.

    `aliases` maps a name of ours to a model id. `clock` is the monotonic clock of the calls'
    deadlines, `wall_clock` gives seconds since 1970. What `unavailable` remembers is shown. A caller
    sees the models that `permits` lets its tenant have.
    """

    def __init__(  # noqa: PLR0913  two sources, what is remembered beside them, two clocks, bounds
        self,
        provider: LiveModels,
        catalog: Catalog,
        *,
        aliases: Mapping[str, str],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        unavailable: UnavailableModels | None = None,
        limits: ListCacheLimits | None = None,
        permits: Callable[[str, str], bool] | None = None,
    ) -> None:
        self._provider = provider
        self._catalog = catalog
        self._aliases = aliases
        self._clock = clock
        self._wall_clock = wall_clock
        self._unavailable = unavailable if unavailable is not None else UnavailableModels(clock=clock)
        self._limits = limits if limits is not None else ListCacheLimits()
        self._permits = permits
        self._known: OrderedDict[str, _Entry] = OrderedDict()
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
        if asked_s - known.failed_s >= self._limits.fail_s:
            if not self._is_current(known, asked_s):
                await self._wait_for_reading(known, call)
            elif asked_s - known.read_s >= self._limits.fresh_s * _RENEWED_FROM:
                self._read_in_background(known, call)
        _raise_if_rejected(known, call)
        response = self._answer(request, known, call)
        if not self._is_current(known, asked_s):
            response.warnings.append(chat.Warning(message=self._remark(known)))
        return response

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

    def _known_for(self, call: Call) -> _Entry:
        key = call.key_fingerprint()
        known = self._known.setdefault(key, _Entry())
        self._known.move_to_end(key)
        self._forget_the_oldest()
        return known

    def _forget_the_oldest(self) -> None:
        limits, total_bytes = self._limits, sum(known.live_bytes for known in self._known.values())
        while len(self._known) > limits.keys_max or (total_bytes > limits.bytes_max and len(self._known) > 1):
            _, forgotten = self._known.popitem(last=False)
            total_bytes -= forgotten.live_bytes

    def _is_current(self, known: _Entry, asked_s: float) -> bool:
        """Whether the list was fresh when the caller asked, or has been read since."""
        return asked_s - known.read_s < self._limits.fresh_s or known.read_s >= asked_s

    async def _wait_for_reading(self, known: _Entry, call: Call) -> None:
        reading = known.reading or self._start_reading(known, call)
        patience_s = max(0.0, call.seconds_left(self._clock()) * _PATIENCE)
        if known.live is not None:
            patience_s = min(patience_s, self._limits.stale_wait_s)
        reading.waiting += 1
        try:
            # Unlike awaiting the task, `wait` leaves it running when this caller is cancelled.
            await asyncio.wait({reading.task}, timeout=patience_s)
            reading.background = reading.background or known.live is not None
        finally:
            reading.waiting -= 1
            if reading.waiting == 0 and not reading.background and not reading.task.done():
                reading.task.cancel()
                _forget(known, reading)
        if reading.task.done() and not reading.task.cancelled():
            reading.task.result()  # a defect is the caller's to see, as in its own code

    def _read_in_background(self, known: _Entry, call: Call) -> None:
        """Renew a list that is fresh still. The call that asked for it has ended by then, so what is
        learnt on the way is written into nobody's progress.
        """
        if known.reading is None and len(self._tasks) < self._limits.background_max:
            alone = dataclasses.replace(call, progress=Progress())
            self._start_reading(known, alone).background = True

    def _start_reading(self, known: _Entry, call: Call) -> _Fetch:
        task = asyncio.create_task(self._read(known, call), name="read the provider's list of models")
        reading = _Fetch(task=task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: _forget(known, reading))
        known.reading = reading
        return reading

    async def _read(self, known: _Entry, call: Call) -> None:
        """Ask the provider, for as long as `fetch_s` and not the first caller's deadline allows."""
        fetch_s = self._limits.fetch_s
        ours = dataclasses.replace(
            call, deadline_s=self._clock() + fetch_s, deadline_reason=Reason.CALL_TIMEOUT
        )
        try:
            async with asyncio.timeout(fetch_s):
                live = await self._provider.live_models(ours)
        except ServiceError as error:
            # A copy: the exception itself would hold its frames, and theirs hold the call.
            known.failure = ServiceError(error.reason, error.message, upstream=error.upstream)
            known.failed_s = self._clock()
        except TimeoutError:
            known.failure = ServiceError(Reason.CALL_TIMEOUT, "the provider's list took too long")
            known.failed_s = self._clock()
        else:
            self._keep(live, known, call)

    def _keep(self, live: Sequence[models.Model], known: _Entry, call: Call) -> None:
        known.cut = len(live) > self._limits.models_max
        known.live, known.failure = live[: self._limits.models_max], None
        known.live_bytes = sum(model.ByteSize() for model in known.live)
        known.read_s, known.read_at_s = self._clock(), self._wall_clock()
        self._forget_the_oldest()
        if not call.caller_brought_key:
            self._live_prices = self._prices_of(known.live)

    def _prices_of(self, live: Sequence[models.Model]) -> dict[str, models.Pricing]:
        return {
            model.id: merged_pricing(model.pricing, self._catalog.price(model.id))
            for model in live
            if model.HasField("pricing")
        }

    def _answer(
        self, request: service.ListModelsRequest, known: _Entry, call: Call
    ) -> service.ListModelsResponse:
        refused = self._unavailable.of(call.key_fingerprint())
        merged = merge(
            self._catalog,
            known.live,
            today=_day(self._wall_clock()),
            aliases=self._aliases,
            refused=refused,
        )
        permits = self._permits
        if permits is not None:
            merged = [model for model in merged if permits(call.tenant, model.id)]
        response = page(merged, request)
        if known.live is not None:
            response.provider_list_time.FromNanoseconds(int(known.read_at_s * 1e9))
        if known.cut:
            most = self._limits.models_max
            response.warnings.append(
                chat.Warning(message=f"The provider lists more than {most} models: the rest is left out.")
            )
        shown = [model.id for model in response.models if model.id in refused]
        if shown:
            response.warnings.append(chat.Warning(message=_refused_remark(shown)))
        return response

    def _remark(self, known: _Entry) -> str:
        why = known.failure.reason if known.failure is not None else "it did not come in time"
        if known.live is not None:
            return f"The provider's list is not to be had ({why}): these models are from its last one."
        return (
            f"The provider's list is not to be had ({why}): these models are from the catalogue alone, "
            f"as of {self._catalog.as_of}."
        )


def _forget(known: _Entry, reading: _Fetch) -> None:
    if known.reading is reading:
        known.reading = None


def _raise_if_rejected(known: _Entry, call: Call) -> None:
    failure = known.failure
    if failure is not None and call.caller_brought_key and failure.reason in _KEY_REJECTED:
        raise ServiceError(Reason.CALLER_KEY_REJECTED, failure.message, upstream=failure.upstream)


def _refused_remark(refused: Sequence[str]) -> str:
    named, more = ", ".join(refused[:_NAMED_MAX]), len(refused) - _NAMED_MAX
    others = f" and {more} more" if more > 0 else ""
    return f"The provider lately refused calls of {named}{others}, as not available with this key."


def _day(seconds_since_1970: float) -> dt.date:
    return dt.datetime.fromtimestamp(seconds_since_1970, dt.UTC).date()
