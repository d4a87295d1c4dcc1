"""The provider's limits as gauges."""

from support.records import record
from togetherchat_server.telemetry.provider_limits import ProviderRateLimits


class Board:
    """A sink, its gauges and its clock."""

    def __init__(self):
        self.now_s = 100.0
        self.gauges = {}
        self.sink = ProviderRateLimits(self.gauges, clock=lambda: self.now_s)

    def tell(self, *, caller_key=False, **limits):
        headers = tuple((name.replace("_", "-"), value) for name, value in limits.items())
        self.sink(record(rate_limits=headers, caller_key=caller_key))

    def read(self):
        return {name: gauge() for name, gauge in self.gauges.items()}


def test_nothing_is_shown_before_the_provider_tells_it():
    """A number that nobody knows is not 0."""
    board = Board()
    board.tell()
    assert {} == board.read()


def test_the_last_word_on_each_limit_is_shown():
    """Of several answers, and how long ago the last of them came, in whole seconds."""
    board = Board()
    board.tell(x_ratelimit_limit="200", x_ratelimit_remaining="199", x_tokenlimit_remaining_dynamic="12.9")
    board.now_s += 5.0
    board.tell(x_ratelimit_remaining="198")
    board.now_s += 2.5
    assert {
        "upstream_ratelimit_limit": 200,
        "upstream_ratelimit_remaining": 198,
        "upstream_tokenlimit_remaining_dynamic": 12,
        "upstream_limits_age_s": 2,
    } == board.read()


def test_limits_of_a_key_that_a_caller_brought_are_its_own():
    """They would mix with those of the service's key."""
    board = Board()
    board.tell(caller_key=True, x_ratelimit_limit="7")
    assert {} == board.read()


def test_what_is_no_number_or_no_known_limit_is_left_out():
    """The set of gauges is bounded, whatever headers a provider invents."""
    board = Board()
    board.tell(
        x_ratelimit_limit="many",
        x_ratelimit_remaining="inf",
        x_tokenlimit_limit="-1",
        x_ratelimit_of_tuesdays="3",
    )
    assert {} == board.read()
