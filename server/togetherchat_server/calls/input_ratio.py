"""How many bytes of a request are one input token of a model, as completed calls have shown."""

from typing import Final, final

from togetherchat_server.calls.token_bounds import BYTES_PER_TOKEN, InputSize
from togetherchat_server.domain.bounded import remember

MODELS_MAX: Final = 1024
BYTES_REMEMBERED: Final = 1_000_000.0
"""The weight of older calls is halved when their requests have this many bytes."""


@final
class InputRatios:
    """Observes completed calls, and estimates the input of those whose usage the provider did not report."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}

    def observe(self, model: str, size: InputSize, input_tokens: int) -> None:
        """Record the input tokens that the provider reported. Requests with media tell nothing about text."""
        if input_tokens <= 0 or size.media_tokens:
            return
        size_sum, token_sum = self._sums.get(model, (0.0, 0.0))
        size_sum, token_sum = size_sum + size.text_bytes, token_sum + input_tokens
        if size_sum > BYTES_REMEMBERED:
            size_sum, token_sum = size_sum / 2, token_sum / 2
        remember(self._sums, model, (size_sum, token_sum), at_most=MODELS_MAX)

    def estimate(self, model: str, size: InputSize) -> int:
        """Return the input tokens that a request probably had."""
        size_sum, token_sum = self._sums.get(model, (float(BYTES_PER_TOKEN), 1.0))
        return size.usual_tokens(size_sum / token_sum)
