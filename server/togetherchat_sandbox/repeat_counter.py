"""Counts repeated requests, for models that fail the first N times and for the prompt cache.

Holds a bounded number of hashes and no text. The least recently repeated request is dropped first.
"""

from collections import OrderedDict

from togetherchat_sandbox.prng import random_bits
from togetherchat_sandbox.request import ChatRequest


class RepeatCounter:
    """Counts requests with the same model and last user message, or the same model and cache key."""

    def __init__(self, *, requests_max: int) -> None:
        self._requests_max = requests_max
        self._counts: OrderedDict[int, int] = OrderedDict()

    def count(self, request: ChatRequest) -> int:
        """Count `request`; return how many times it has been received, this time included."""
        return self._count(random_bits(request.model, request.last_user_text))

    def count_cache_key(self, request: ChatRequest) -> int:
        """Count the request's key of the prompt cache, like `count`; return 1 if it has none."""
        return self._count(random_bits(request.model, "cache", request.cache_key)) if request.cache_key else 1

    def _count(self, key: int) -> int:
        count = self._counts.pop(key, 0) + 1
        self._counts[key] = count
        if len(self._counts) > self._requests_max:
            self._counts.popitem(last=False)
        return count
