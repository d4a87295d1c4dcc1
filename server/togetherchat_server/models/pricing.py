"""The cost of a call by the price list, in exact integers without floats.

Owns the arithmetic only. `list_cache.py` provides the price. The provider's invoice is authoritative.
"""

import math
from fractions import Fraction
from functools import lru_cache
from typing import Final

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import models_pb2 as models

_INT64_MAX: Final = 2**63 - 1
_NANO_USD_PER_TOKEN: Final = 1000
"""1 USD per million tokens is 1,000 nano-USD per token."""
_PRICES_CACHED: Final = 1024


def cost_nano_usd(usage: chat.Usage, pricing: models.Pricing) -> int | None:
    """Return the cost of `usage`, as `tokens_cost` does."""
    cached = usage.cached_tokens if usage.HasField("cached_tokens") else 0
    return tokens_cost(pricing, usage.prompt_tokens, usage.completion_tokens, cached)


def tokens_cost(
    pricing: models.Pricing, input_tokens: int, output_tokens: int, cached_tokens: int = 0
) -> int | None:
    """Return the cost of tokens in 1e-9 USD, rounded once, at the end, half to even.

    Input tokens from the provider's cache cost the cached rate if that is known, else the full rate.
    Returns None if the input or output price is unknown, or if a price or a count is invalid.
    """
    if not (
        pricing.HasField("input_usd_per_million_tokens") and pricing.HasField("output_usd_per_million_tokens")
    ):
        return None
    input_usd, output_usd = pricing.input_usd_per_million_tokens, pricing.output_usd_per_million_tokens
    cached_usd, cached = input_usd, 0
    if cached_tokens and pricing.HasField("cached_input_usd_per_million_tokens"):
        cached_usd = pricing.cached_input_usd_per_million_tokens
        cached = min(cached_tokens, input_tokens)
    rates = _rates(input_usd, cached_usd, output_usd)
    if rates is None or min(input_tokens, output_tokens, cached) < 0:
        return None
    input_rate, cached_rate, output_rate, unit = rates
    cost = _divided_half_to_even(
        (input_tokens - cached) * input_rate + cached * cached_rate + output_tokens * output_rate, unit
    )
    return cost if cost <= _INT64_MAX else None


@lru_cache(maxsize=_PRICES_CACHED)
def _rates(*usd_per_million_tokens: float) -> tuple[int, int, int, int] | None:
    """Return the decimal prices as integers of one unit, and the number of units in a nano-USD.

    0.88 is 88/100, not the nearest binary fraction. The result is cached: fractions take ten times as
    long as the rest.
    """
    if not all(math.isfinite(price) and price >= 0 for price in usd_per_million_tokens):
        return None
    exact = [Fraction(repr(price)) * _NANO_USD_PER_TOKEN for price in usd_per_million_tokens]
    unit = math.lcm(*(price.denominator for price in exact))
    first, second, third = (int(price * unit) for price in exact)
    return first, second, third, unit


def _divided_half_to_even(amount: int, unit: int) -> int:
    quotient, remainder = divmod(amount, unit)
    up = 2 * remainder > unit or (2 * remainder == unit and quotient % 2 == 1)
    return quotient + up
