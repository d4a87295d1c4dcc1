"""Counts repeated requests, for models that fail the first N times.

Holds a bounded number of hashes and no text. The least recently repeated request is dropped first.
"""

from collections import OrderedDict

from togetherchat_sandbox.prng import random_bits
from togetherchat_sandbox.request import ChatRequest


class RepeatCounter:
    """Counts requests with the same model and last user message."""

    def __init__(self, *, requests_max: int) -> None:
        self._requests_max = requests_max
        self._counts: OrderedDict[int, int] = OrderedDict()

    def count(self, request: ChatRequest) -> int:
        """Count `request`; return how many times it has been received, this time included."""
        key = random_bits(request.model, request.last_user_text)
        count = self._counts.pop(key, 0) + 1
        self._counts[key] = count
        if len(self._counts) > self._requests_max:
            self._counts.popitem(last=False)
        return count
