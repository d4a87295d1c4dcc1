"""Counts and a sliding minute, made of call records."""

import json

import pytest

from support.records import record
from togetherchat_server.domain.reasons import Reason
from togetherchat_server.telemetry.dashboard import CALLERS_OWN, LATENCIES_MAX, OURS, UPSTREAMS, LiveFigures


class Desk:
    """The sink with a clock of its own."""

    def __init__(self):
        self.now_s = 1000.0
        self.figures = LiveFigures(clock=lambda: self.now_s)

    def end(self, **changed):
        self.figures(record(**changed))

    def fail(self, reason, **changed):
        self.end(code="503", reason=reason, **changed)

    def read(self):
        return self.figures.snapshot()

    def upstream(self):
        return self.read()["upstream"]


@pytest.fixture
def desk():
    return Desk()


def test_every_reason_is_somebodys():
    """The caller's, this service's or the provider's, and of one of them alone."""
    assert set(Reason) == CALLERS_OWN | OURS | {Reason(reason) for reason in UPSTREAMS}
    assert set() == CALLERS_OWN & OURS


def test_calls_are_counted_by_code_and_failures_by_reason(desk):
    """From the start on."""
    desk.end()
    desk.end()
    desk.fail("OVERLOADED")
    desk.now_s += 3600
    read = desk.read()

    assert (3, {"OK": 2, "503": 1}, {"OVERLOADED": 1}) == (read["calls"], read["codes"], read["reasons"])
    assert 3600 == read["uptime_s"]


def test_tokens_and_cost_are_added_up(desk):
    """Of what was answered, whether it ended well or not."""
    desk.end(completion_tokens=4, cost_nano_usd=1_500)
    desk.end(completion_tokens=None)
    desk.fail("UPSTREAM_TRUNCATED", completion_tokens=3)

    assert (7, 1.5e-6) == (desk.read()["tokens"], desk.read()["cost_usd"])


def test_the_window_has_a_place_for_each_second(desk):
    """The oldest first, the one that is running last."""
    desk.end(completion_tokens=4)
    desk.now_s += 2
    desk.fail("OVERLOADED", completion_tokens=None)
    seconds = desk.read()["seconds"]

    assert [1, 0, 1] == seconds["calls"][-3:]
    assert [0, 0, 1] == seconds["failures"][-3:]
    assert [4, 0, 0] == seconds["tokens"][-3:]
    assert {60} == {len(series) for series in seconds.values()}


@pytest.mark.parametrize(("later_s", "expected"), [(59, 1), (60, 0), (119, 0), (6000, 0)])
def test_what_is_older_than_the_window_is_gone(desk, later_s, expected):
    """A slot that is used again forgets what it held, and one that is not is not read."""
    desk.end(first_token_s=0.5)
    desk.now_s += later_s
    read = desk.read()

    assert expected == sum(read["seconds"]["calls"])
    assert expected == read["upstream"]["answered"]
    assert expected == read["first_token"]["calls"]


def test_the_first_tokens_latency(desk):
    """Half of the last minute's calls had it sooner, and all but a twentieth."""
    for milliseconds in range(1, 101):
        desk.end(first_token_s=milliseconds / 1000)

    assert {"calls": 100, "p50_s": 0.051, "p95_s": 0.096} == desk.read()["first_token"]


def test_without_a_first_token_there_is_no_latency(desk):
    """A number that nobody knows is not 0."""
    desk.end()

    assert {"calls": 0, "p50_s": None, "p95_s": None} == desk.read()["first_token"]


def test_latencies_have_a_bound(desk):
    """However many calls a minute has."""
    for _ in range(LATENCIES_MAX + 1):
        desk.end(first_token_s=0.1)

    assert LATENCIES_MAX == desk.read()["first_token"]["calls"]


@pytest.mark.parametrize(
    ("endings", "expected"),
    [
        ([], "quiet"),
        ([("", 1)], "well"),
        ([("", 1), ("UPSTREAM_BAD_GATEWAY", 1)], "failing"),
        ([("UPSTREAM_BAD_GATEWAY", 1)], "down"),
        ([("", 1), ("UPSTREAM_OVERLOADED", 0)], "held"),
        ([("INVALID_REQUEST", 0), ("CALLER_CANCELLED", 1), ("OVERLOADED", 0)], "quiet"),
    ],
)
def test_the_state_of_the_provider(desk, endings, expected):
    """By what it did lately; what callers or this service did says nothing of it."""
    for reason, attempts in endings:
        desk.end(reason=reason, attempts=attempts)

    assert expected == desk.upstream()["state"]


def test_the_state_is_of_the_last_seconds(desk):
    """A provider that is back is well again long before its failures leave the window."""
    desk.fail("UPSTREAM_RESET")
    desk.now_s += 15
    desk.end()

    assert ("well", 1, 1) == tuple(desk.upstream()[name] for name in ("state", "answered", "failed"))


def test_the_last_failure_and_the_retries(desk):
    """Which it was, how long ago, and how often a request was sent again."""
    desk.fail("UPSTREAM_RESET", attempts=3)
    desk.now_s += 2.5

    assert {"reason": "UPSTREAM_RESET", "age_s": 2.5} == desk.upstream()["last_failure"]
    assert 2 == desk.upstream()["retries"]
    assert None is Desk().upstream()["last_failure"]


def test_nothing_of_a_callers_is_kept(desk):
    """No model, no id: whoever may see the figures may not see what others asked for."""
    desk.fail("UPSTREAM_RESET", model="private/model", id="their-id", model_asked="their-alias")
    said = json.dumps(desk.read())

    assert [] == [word for word in ("private/model", "their-id", "their-alias") if word in said]
