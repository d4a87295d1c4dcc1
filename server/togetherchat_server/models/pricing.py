"""What a call cost, by the price list: exact integers, no float on the way.

Owns the arithmetic alone. Where the price comes from is `directory.py`'s matter; what counts
in the end is the provider's invoice.
"""

import math
from fractions import Fraction
from functools import lru_cache
from typing import Final

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import models_pb2 as models

_INT64_MAX: Final = 2**63 - 1
_NANO_USD_PER_TOKEN: Final = 1000
"""1 USD for a million tokens is 1,000 nano-USD a token."""
_PRICES_CACHED: Final = 1024


def cost_nano_usd(usage: chat.Usage, pricing: models.Pricing) -> int | None:
    """1e-9 USD for `usage`, rounded half to even once, at the end.

    Prompt tokens from the provider's cache cost the cached rate where both their number and
    that rate are known, and the full one otherwise. None where the input or output price is
    unknown, or where a number is one that no price or count can be.
    """
    if not (
        pricing.HasField("input_usd_per_million_tokens") and pricing.HasField("output_usd_per_million_tokens")
    ):
        return None
    input_usd, output_usd = pricing.input_usd_per_million_tokens, pricing.output_usd_per_million_tokens
    cached_usd, cached_tokens = input_usd, 0
    if usage.HasField("cached_tokens") and pricing.HasField("cached_input_usd_per_million_tokens"):
        cached_usd = pricing.cached_input_usd_per_million_tokens
        cached_tokens = min(usage.cached_tokens, usage.prompt_tokens)
    rates = _rates(input_usd, cached_usd, output_usd)
    if rates is None or min(usage.prompt_tokens, usage.completion_tokens, cached_tokens) < 0:
        return None
    input_rate, cached_rate, output_rate, unit = rates
    cost = _divided_half_to_even(
        (usage.prompt_tokens - cached_tokens) * input_rate
        + cached_tokens * cached_rate
        + usage.completion_tokens * output_rate,
        unit,
    )
    return cost if cost <= _INT64_MAX else None


@lru_cache(maxsize=_PRICES_CACHED)
def _rates(*usd_per_million_tokens: float) -> tuple[int, int, int, int] | None:
    """Prices as they were written, as integers of one unit, and how many units a nano-USD has.

    0.88 is 88/100, not the nearest binary fraction. Kept, because fractions take ten times as
    long as the rest.
    """
    if not all(math.isfinite(price) and price >= 0 for price in usd_per_million_tokens):
        return None
    exact = [Fraction(repr(price)) * _NANO_USD_PER_TOKEN for price in usd_per_million_tokens]
    unit = math.lcm(*(price.denominator for price in exact))
    first, second, third = (int(price * unit) for price in exact)
    return first, second, third, unit


def _divided_half_to_even(amount: int, unit: int) -> int:
    quotient, rest = divmod(amount, unit)
    up = 2 * rest > unit or (2 * rest == unit and quotient % 2 == 1)
    return quotient + up
