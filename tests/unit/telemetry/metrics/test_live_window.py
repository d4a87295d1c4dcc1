"""The console's live metrics: totals, and the last minute of a store."""

import asyncio
import json
import re

import pytest

from support.records import record
from support.waiting import eventually
from togetherchat_server.domain.reasons import Reason
from togetherchat_server.telemetry.metrics import live_window as module
from togetherchat_server.telemetry.metrics.call_metrics import (
    PROVIDER_REASONS,
    REJECTED_REASONS,
    CallMetrics,
)
from togetherchat_server.telemetry.metrics.definitions import ADMISSION_REJECTED, DEFINITIONS
from togetherchat_server.telemetry.metrics.live_window import WINDOW_S, LiveWindow, quantile
from togetherchat_server.telemetry.metrics.store import MetricStore

OTHER_MODEL = "other/model"


class Fixture:
    """A store with its sink and its window, and the clock of both."""

    def __init__(self):
        self.now_s = 1000.0
        self.store = MetricStore()
        models = {record().model, OTHER_MODEL}
        self.sink = CallMetrics(self.store, models=models, wall_clock=lambda: self.now_s)
        self.window = LiveWindow(self.store, clock=lambda: self.now_s)

    def end(self, **changed):
        self.sink(record(**changed))

    def fail(self, reason, **changed):
        self.end(code="503", reason=reason, **changed)

    def pass_seconds(self, seconds):
        for _ in range(seconds):
            self.now_s += 1
            self.window.tick()

    def read(self):
        return self.window.summary()

    def provider(self):
        return self.read()["provider"]


@pytest.fixture
def live():
    return Fixture()


def test_admission_rejects_for_the_reasons_that_its_metric_names():
    """No reason of the provider is one of them."""
    help_text = DEFINITIONS[ADMISSION_REJECTED].help

    assert REJECTED_REASONS == {reason for reason in Reason if reason in re.findall("[A-Z_]+", help_text)}
    assert set() == REJECTED_REASONS & PROVIDER_REASONS


def test_calls_are_counted_by_code_and_failures_by_reason(live):
    """Since the start, over all models and protocols."""
    live.end()
    live.end(protocol="http", method="chat.completions", model=OTHER_MODEL)
    live.fail("OVERLOADED")
    live.pass_seconds(3600)
    read = live.read()

    assert (3, {"OK": 2, "503": 1}, {"OVERLOADED": 1}) == (read["calls"], read["codes"], read["reasons"])
    assert 3600 == read["uptime_s"]


def test_tokens_and_cost_are_added_up(live):
    """Of all completions, complete or not."""
    live.end(completion_tokens=4, cost_nano_usd=1_500)
    live.end(completion_tokens=None)
    live.fail("UPSTREAM_TRUNCATED", completion_tokens=3)

    assert (7, 1.5e-6) == (live.read()["output_tokens"], pytest.approx(live.read()["cost_usd"]))


def test_the_window_has_a_value_for_each_second(live):
    """The oldest second is first, the current one last."""
    live.end(completion_tokens=4)
    live.pass_seconds(2)
    live.fail("OVERLOADED", completion_tokens=None)
    seconds = live.read()["seconds"]

    assert [1, 0, 1] == seconds["calls"][-3:]
    assert [4, 0, 0] == seconds["output_tokens"][-3:]
    assert {WINDOW_S} == {len(series) for series in seconds.values()}


@pytest.mark.parametrize(("later_s", "expected"), [(59, 1), (60, 0), (119, 0), (6000, 0)])
def test_the_window_ends_after_a_minute(live, later_s, expected):
    """A call is in it for the second in which it ended and the 59 after it."""
    live.end(first_token_s=0.5)
    live.pass_seconds(later_s)
    read = live.read()

    assert expected == sum(read["seconds"]["calls"])
    assert expected == read["provider"]["ok"]
    assert expected == read["time_to_first_token"]["calls"]


def test_counts_that_a_worker_sent_away_stay_in_the_window(live):
    """A worker empties its store at every heartbeat."""
    live.end(first_token_s=0.1)
    live.window.add_drained(live.store.drain())
    live.pass_seconds(1)
    live.end()
    read = live.read()

    assert (2, [1, 1]) == (read["calls"], read["seconds"]["calls"][-2:])
    assert 1 == read["time_to_first_token"]["calls"]


def test_the_time_to_first_token_has_quantiles(live):
    """The median and the 95th percentile of the last minute, estimated from the buckets."""
    for milliseconds in range(1, 101):
        live.end(first_token_s=milliseconds / 1000)

    assert {"calls": 100, "p50_s": 0.05, "p95_s": 0.095} == live.read()["time_to_first_token"]


def test_without_a_first_token_there_are_no_quantiles(live):
    """An unknown number is not 0."""
    live.end()

    assert {"calls": 0, "p50_s": None, "p95_s": None} == live.read()["time_to_first_token"]


@pytest.mark.parametrize(
    ("buckets", "share", "expected"),
    [
        ((4, 0, 0), 0.5, 0.5),
        ((0, 4, 0), 0.5, 2.0),
        ((1, 1, 0), 0.5, 1.0),
        ((1, 1, 0), 1.0, 3.0),
        ((0, 0, 5), 0.5, 3.0),
    ],
)
def test_quantiles_are_interpolated_in_their_bucket(buckets, share, expected):
    """Above the last bound, the last bound is all that is known."""
    assert expected == quantile(share, buckets, (1.0, 3.0))


@pytest.mark.parametrize(
    ("endings", "expected"),
    [
        ([], "idle"),
        ([("", 1)], "healthy"),
        ([("", 1), ("UPSTREAM_BAD_GATEWAY", 1)], "degraded"),
        ([("UPSTREAM_BAD_GATEWAY", 1)], "unavailable"),
        ([("", 1), ("UPSTREAM_OVERLOADED", 0)], "throttled"),
        ([("INVALID_REQUEST", 0), ("CALLER_CANCELLED", 1), ("OVERLOADED", 0)], "idle"),
    ],
)
def test_the_state_of_the_provider_follows_its_own_failures(live, endings, expected):
    """Failures that the caller or this service caused do not count."""
    for reason, attempts in endings:
        live.end(reason=reason, attempts=attempts)

    assert expected == live.provider()["state"]


def test_the_state_of_the_provider_is_that_of_the_last_seconds(live):
    """A recovered provider is healthy long before its failures leave the window."""
    live.fail("UPSTREAM_RESET")
    live.pass_seconds(16)
    live.end()

    assert ("healthy", 1, 1) == tuple(live.provider()[name] for name in ("state", "ok", "error"))


def test_the_last_failure_and_the_retries_are_shown(live):
    """The reason stays when the failure has left the window."""
    live.fail("UPSTREAM_RESET", attempts=3)
    live.end(attempts=2)
    retries = live.provider()["retries"]
    live.pass_seconds(90)
    provider = live.provider()

    assert (3, 0) == (retries, provider["retries"])
    assert {"reason": "UPSTREAM_RESET", "age_s": 90.0} == provider["last_failure"]


def test_before_a_failure_there_is_no_last_failure(live):
    """A caller's mistake is not a failure of the provider."""
    live.fail("INVALID_REQUEST")

    assert None is live.provider()["last_failure"]


def test_the_summary_names_no_model_tenant_or_key(live):
    """Everyone who may call may read it."""
    live.end(model=OTHER_MODEL, tenant="a-tenant", key_id="a-key", id="an-id", first_token_s=0.1, attempts=2)
    live.fail("UPSTREAM_RESET", model=OTHER_MODEL, tenant="a-tenant", key_id="a-key")
    text = json.dumps(live.read())

    assert [] == [word for word in (OTHER_MODEL, "a-tenant", "a-key", "an-id", "Complete") if word in text]


async def test_a_timer_ends_each_second(live, monkeypatch):
    """From start to stop."""
    monkeypatch.setattr(module, "INTERVAL_S", 0.001)
    live.end()
    live.window.start()
    await eventually(lambda: sum(live.read()["seconds"]["calls"]) == 0)
    live.window.stop()
    live.end()
    await asyncio.sleep(0.01)

    assert 1 == live.read()["seconds"]["calls"][-1]
