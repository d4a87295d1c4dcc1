"""What a call's record adds to which count."""

import pytest

from support.records import record
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.call_metrics import CallMetrics
from togetherchat_server.telemetry.metrics.cardinality import TENANTS_MAX
from togetherchat_server.telemetry.metrics.store import MetricStore

METHOD = record().method
OURS = "known/model"


def tallied(*records):
    tally = MetricStore()
    sink = CallMetrics(tally, models={OURS}, wall_clock=lambda: 1000.0)
    for one in records:
        sink(one)
    return tally


def counted(tally, name):
    return {key[1:]: value for key, value in tally.counts.items() if key[0] == name}


def total(tally, name):
    return sum(counted(tally, name).values())


def fell(tally, name):
    """How many values fell into the spreads of a name, and their sum, by labels."""
    return {
        key[1:]: (sum(spread[:-1]), spread[-1]) for key, spread in tally.spreads.items() if key[0] == name
    }


def test_calls_are_told_apart_by_front_method_code_and_reason():
    """An ending that differs in one of them is counted apart; `none` is the reason of a success."""
    tally = tallied(
        record(),
        record(),
        record(protocol="http", method="chat.completions"),
        record(code="UNAVAILABLE", reason="UPSTREAM_RESET"),
    )

    assert {
        ("grpc", METHOD, "OK", "none"): 2,
        ("http", "chat.completions", "OK", "none"): 1,
        ("grpc", METHOD, "UNAVAILABLE", "UPSTREAM_RESET"): 1,
    } == counted(tally, names.CALLS)


def test_a_model_that_nobody_listed_is_other():
    """However many names callers think of, they make one series."""
    tally = tallied(record(model=OURS), *(record(model=f"made/up-{number}") for number in range(500)))

    assert {("none", OURS, "OK"): 1, ("none", "other", "OK"): 500} == counted(tally, names.TENANT_CALLS)


def test_a_call_that_came_to_no_model_has_none():
    """It was refused before its message was read."""
    tally = tallied(record(model="", attempts=0, code="UNAUTHENTICATED", reason="MISSING_CREDENTIALS"))

    assert {("none", "none", "UNAUTHENTICATED"): 1} == counted(tally, names.TENANT_CALLS)


def test_tenants_are_named_up_to_a_bound():
    """Names come from the service's own configuration; so many of them, and the rest is `other`."""
    tally = tallied(*(record(tenant=f"tenant-{number}") for number in range(TENANTS_MAX + 5)))

    by_tenant = {tenant: number for (tenant, _, _), number in counted(tally, names.TENANT_CALLS).items()}
    assert TENANTS_MAX + 1 == len(by_tenant)
    assert 5 == by_tenant["other"]


def test_tokens_and_cost_belong_to_tenant_and_model():
    """Prompt and completion apart, the cost in billionths of a dollar."""
    tally = tallied(*[record(tenant="blue", model=OURS, cost_nano_usd=1500)] * 2)

    assert {("blue", OURS, "input"): 6, ("blue", OURS, "output"): 8} == counted(tally, names.TOKENS)
    assert {("blue", OURS): 3000} == counted(tally, names.COST)


def test_an_answer_without_usage_counts_its_pieces_and_says_so():
    """What was estimated is counted, and the calls of which that is true."""
    tally = tallied(record(prompt_tokens=None, completion_tokens=7, usage_estimated=True), record())

    assert {("none", "other", "input"): 3, ("none", "other", "output"): 11} == counted(tally, names.TOKENS)
    assert 1 == total(tally, names.ESTIMATED)


def test_attempts_after_the_first_are_retries():
    """A call that never came to an attempt has neither."""
    tally = tallied(record(attempts=3), record(attempts=1), record(attempts=0, reason="OVERLOADED"))

    assert (4, 2) == (total(tally, names.ATTEMPTS), total(tally, names.RETRIES))


@pytest.mark.parametrize("reason", ["OVERLOADED", "CALLER_QUOTA", "DRAINING"])
def test_who_got_no_place_was_refused(reason):
    """Those kinds are admission's, and no others."""
    tally = tallied(record(attempts=0, reason=reason), record(reason="UPSTREAM_OVERLOADED"))

    assert {(reason,): 1} == counted(tally, names.REFUSED)


def test_a_callers_own_retry_is_counted():
    """It says that it is one."""
    assert 1 == total(tallied(record(previous_attempts=2), record()), names.CALLER_RETRIES)


def test_durations_of_failures_stand_apart():
    """A refusal takes no time and would make answers look fast."""
    tally = tallied(record(duration_s=2.0), record(duration_s=0.1, reason="OVERLOADED"))

    assert {
        ("grpc", METHOD, "other", "ok"): (1, 2.0),
        ("grpc", METHOD, "other", "error"): (1, 0.1),
    } == fell(tally, names.DURATION)


def test_time_per_token_is_the_mean_after_the_first():
    """One observation a stream: nothing is measured while it runs."""
    stream = {"messages_sent": 60, "first_token_s": 0.5, "duration_s": 2.5}
    tally = tallied(record(completion_tokens=101, **stream))

    assert {("other",): (1, 0.02)} == fell(tally, names.INTER_TOKEN)
    assert {(METHOD, "other"): (1, 0.5)} == fell(tally, names.FIRST_TOKEN)


@pytest.mark.parametrize(
    "without",
    [
        {"messages_sent": 1},
        {"completion_tokens": 1},
        {"completion_tokens": None},
        {"reason": "UPSTREAM_RESET"},
    ],
    ids=str,
)
def test_what_has_no_time_per_token(without):
    """A whole answer, one of a single token, one that broke off."""
    stream = {"messages_sent": 60, "first_token_s": 0.5, "completion_tokens": 9, **without}

    assert {} == fell(tallied(record(**stream)), names.INTER_TOKEN)


def test_only_waits_are_observed():
    """A call that found a place at once has not waited."""
    assert {(): (1, 0.25)} == fell(tallied(record(queued_s=0.25), record()), names.QUEUED)


def test_a_bound_holds_its_own_value():
    """`le` means at most."""
    tally = MetricStore()
    for seconds in (0.001, 0.0011, 99.0):
        tally.observe((names.QUEUED,), seconds)

    spread = tally.spreads[names.QUEUED,]
    assert [1, 1, *[0] * 9, 1] == spread[:-1]
    assert 99.0021 == pytest.approx(spread[-1])
