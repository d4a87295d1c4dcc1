"""How often the same question came, for names that fail the first N times.

Holds hashes, never words, and a bounded number of them: the one asked least recently goes first.
"""

from collections import OrderedDict

from togetherchat_sandbox.request import ChatRequest
from togetherchat_sandbox.tokens import roll


class Repeats:
    """Counts requests with the same model and last user message."""

    def __init__(self, *, questions_max: int) -> None:
        self._questions_max = questions_max
        self._times: OrderedDict[int, int] = OrderedDict()

    def count(self, request: ChatRequest) -> int:
        """The how-manieth time this is, from 1."""
        question = roll(request.model, request.last_user_text)
        times = self._times.pop(question, 0) + 1
        self._times[question] = times
        if len(self._times) > self._questions_max:
            self._times.popitem(last=False)
        return times
