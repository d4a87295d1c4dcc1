"""The cost of a call, to the nano-dollar."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import models_pb2 as models
from togetherchat_server.models.pricing import cost_nano_usd


def pricing(
    input_: float | None = None, output: float | None = None, cached: float | None = None
) -> models.Pricing:
    return models.Pricing(
        input_usd_per_million_tokens=input_,
        output_usd_per_million_tokens=output,
        cached_input_usd_per_million_tokens=cached,
    )


def usage(prompt: int, completion: int, cached: int | None = None) -> chat.Usage:
    return chat.Usage(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached)


def test_a_price_of_0_88_costs_880_nano_dollars_a_token():
    """0.88 USD per million tokens, exactly, for any number of tokens."""
    assert cost_nano_usd(usage(1, 0), pricing(0.88, 0.88)) == 880
    assert cost_nano_usd(usage(2_000_000_001, 0), pricing(0.88, 0.88)) == 1_760_000_000_880


def test_prompt_and_completion_have_their_own_prices():
    """3 USD for input and 15 USD for output."""
    assert cost_nano_usd(usage(100, 10), pricing(3.0, 15.0)) == 100 * 3_000 + 10 * 15_000


@pytest.mark.parametrize(
    ("cached_tokens", "cached_price", "expected"),
    [
        (60, 0.3, 40 * 3_000 + 60 * 300),
        (60, None, 100 * 3_000),
        (None, 0.3, 100 * 3_000),
        (0, 0.3, 100 * 3_000),
        (100, 0.0, 0),
        (250, 0.3, 100 * 300),
    ],
)
def test_cached_tokens_cost_the_cached_rate_when_both_are_known(cached_tokens, cached_price, expected):
    """Otherwise they cost the full rate. No more tokens are cached than the prompt has."""
    assert expected == cost_nano_usd(usage(100, 0, cached_tokens), pricing(3.0, 15.0, cached_price))


@pytest.mark.parametrize(
    ("tokens", "price", "expected"),
    [(1, 0.0005, 0), (3, 0.0005, 2), (5, 0.0005, 2), (1, 0.00050001, 1), (1, 0.00149999, 1)],
)
def test_half_a_nano_dollar_is_rounded_to_even(tokens, price, expected):
    """0.5 becomes 0, 1.5 becomes 2, 2.5 becomes 2."""
    assert expected == cost_nano_usd(usage(tokens, 0), pricing(price, 0.0))


def test_rounding_happens_once_at_the_end():
    """Two halves add up to one."""
    assert cost_nano_usd(usage(1, 1), pricing(0.0005, 0.0005)) == 1


@pytest.mark.parametrize("prices", [pricing(), pricing(1.0, None), pricing(None, 1.0)])
def test_an_unknown_price_is_an_unknown_cost(prices):
    """The cost is None, not zero."""
    assert cost_nano_usd(usage(1, 1), prices) is None


def test_a_free_model_costs_nothing():
    """The cost is zero, not None."""
    assert cost_nano_usd(usage(5, 5), pricing(0.0, 0.0)) == 0


@pytest.mark.parametrize("price", [float("nan"), float("inf"), -1.0])
def test_an_invalid_price_is_an_unknown_cost(price):
    """Prices may come from the provider."""
    assert cost_nano_usd(usage(1, 1), pricing(price, 1.0)) is None
    assert cost_nano_usd(usage(1, 1), pricing(1.0, price)) is None
    assert cost_nano_usd(usage(1, 1, 1), pricing(1.0, 1.0, price)) is None


@pytest.mark.parametrize("wrong", [usage(-1, 1), usage(1, -1), usage(1, 1, -1)])
def test_a_negative_count_is_an_unknown_cost(wrong):
    """Counts come from the provider."""
    assert cost_nano_usd(wrong, pricing(1.0, 1.0, 1.0)) is None


def test_a_cost_beyond_the_field_is_an_unknown_cost():
    """An int64 holds at most 9.2 thousand million USD."""
    assert cost_nano_usd(usage(2**31 - 1, 0), pricing(1e9, 0.0)) is None


CENTS = st.decimals(min_value=0, max_value=1000, places=4)
TOKENS = st.integers(min_value=0, max_value=2**31 - 1)


@settings(deadline=None)
@given(prompt=TOKENS, completion=TOKENS, cached=TOKENS, prices=st.tuples(CENTS, CENTS, CENTS))
def test_the_cost_is_the_exact_one_rounded(prompt, completion, cached, prices):
    """For any price of four decimals, compared with exact fractions."""
    input_, output, cached_price = (Fraction(price) for price in prices)
    exact = 1000 * (
        max(prompt - cached, 0) * input_ + min(cached, prompt) * cached_price + completion * output
    )
    assert round(exact) == cost_nano_usd(
        usage(prompt, completion, cached), pricing(*(float(price) for price in prices))
    )
