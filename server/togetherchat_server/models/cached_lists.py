"""The provider's lists of models by upstream key, with their bounds.

Each key has its own list: a caller's private models, and the failure of one key, concern no other key.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

from togetherchat.v1 import models_pb2 as models
from togetherchat_server.domain.reasons import ServiceError


@dataclass(frozen=True, slots=True, kw_only=True)
class ListCacheLimits:
    """The durations and bounds of the cache."""

    fresh_s: float = 300.0
    """How long a list is fresh."""
    fetch_timeout_s: float = 10.0
    """The longest that one fetch takes."""
    retry_after_failure_s: float = 15.0
    """Time after a failed fetch in which no other fetch is started."""
    stale_wait_s: float = 1.0
    """How long a caller waits for a new list if there is an older one."""
    keys_max: int = 256
    """Upstream keys whose lists are kept; the least recently used one is evicted."""
    models_max: int = 5000
    """Models of one list; further ones are dropped. Together lists some hundreds."""
    bytes_max: int = 64 * 2**20
    """Size of all lists; the least recently used ones are evicted."""
    background_max: int = 16
    """Fetches in progress beyond which none is started in the background."""


@dataclass(slots=True, kw_only=True)
class ListFetch:
    """One fetch of the provider's list, and the number of calls that wait for it."""

    task: asyncio.Task[None]
    waiting: int = 0
    background: bool = False
    """Whether the fetch continues when no call waits for it."""


@dataclass(slots=True, kw_only=True)
class CachedList:
    """The cached list of one upstream key."""

    live: Sequence[models.Model] | None = None
    """The last list that was fetched."""
    live_bytes: int = 0
    truncated: bool = False
    """Whether the provider's list was longer than `models_max`."""
    fetched_s: float = -math.inf
    """When the list was fetched, on the monotonic clock."""
    fetched_at_s: float = 0.0
    """When the list was fetched, in seconds since 1970."""
    failure: ServiceError | None = None
    """Why the last fetch failed; None if it succeeded."""
    failed_s: float = -math.inf
    fetch: ListFetch | None = field(default=None, repr=False)

    def forget(self, fetch: ListFetch) -> None:
        """Forget a fetch that has ended, unless another one has begun."""
        if self.fetch is fetch:
            self.fetch = None


@final
class CachedLists:
    """The lists of all keys, the most recently used one last."""

    def __init__(self, limits: ListCacheLimits) -> None:
        self._limits = limits
        self._lists: OrderedDict[str, CachedList] = OrderedDict()

    def get(self, key: str) -> CachedList:
        """Return the list of a key, which becomes the most recently used one."""
        cached = self._lists.setdefault(key, CachedList())
        self._lists.move_to_end(key)
        self.evict()
        return cached

    def evict(self) -> None:
        """Evict the least recently used lists until the bounds hold. The last list is always kept."""
        limits, total_bytes = self._limits, sum(cached.live_bytes for cached in self._lists.values())
        while len(self._lists) > limits.keys_max or (total_bytes > limits.bytes_max and len(self._lists) > 1):
            _, evicted = self._lists.popitem(last=False)
            total_bytes -= evicted.live_bytes
