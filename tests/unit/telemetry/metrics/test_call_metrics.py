"""What a finished call adds to which metric."""

import pytest

from support.records import record
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.call_metrics import CallMetrics
from togetherchat_server.telemetry.metrics.cardinality import TENANTS_MAX
from togetherchat_server.telemetry.metrics.store import MetricStore

METHOD = record().method
LISTED = "known/model"


def store_of(*records):
    store = MetricStore()
    sink = CallMetrics(store, models={LISTED}, wall_clock=lambda: 1000.0)
    for one in records:
        sink(one)
    return store


def counted(store, name):
    return {key[1:]: value for key, value in store.counters.items() if key[0] == name}


def total(store, name):
    return sum(counted(store, name).values())


def observed(store, name):
    """The number of observations of a histogram, and their sum, by labels."""
    return {
        key[1:]: (sum(histogram[:-1]), histogram[-1])
        for key, histogram in store.histograms.items()
        if key[0] == name
    }


def test_calls_are_counted_by_protocol_method_code_and_reason():
    """The reason of a success is `none`."""
    store = store_of(
        record(),
        record(),
        record(protocol="http", method="chat.completions"),
        record(code="UNAVAILABLE", reason="UPSTREAM_RESET"),
    )

    assert {
        ("grpc", METHOD, "OK", "none"): 2,
        ("http", "chat.completions", "OK", "none"): 1,
        ("grpc", METHOD, "UNAVAILABLE", "UPSTREAM_RESET"): 1,
    } == counted(store, names.CALLS)


def test_an_unlisted_model_is_other():
    """However many names callers invent, they make one series."""
    store = store_of(record(model=LISTED), *(record(model=f"made/up-{number}") for number in range(500)))

    assert {("none", LISTED, "OK"): 1, ("none", "other", "OK"): 500} == counted(store, names.TENANT_CALLS)


def test_a_call_rejected_before_its_message_is_read_has_no_model():
    """Its label is `none`."""
    store = store_of(record(model="", attempts=0, code="UNAUTHENTICATED", reason="MISSING_CREDENTIALS"))

    assert {("none", "none", "UNAUTHENTICATED"): 1} == counted(store, names.TENANT_CALLS)


def test_tenants_are_named_up_to_a_bound():
    """The first ones by name, the others as `other`, although names come from the configuration."""
    store = store_of(*(record(tenant=f"tenant-{number}") for number in range(TENANTS_MAX + 5)))

    by_tenant = {tenant: number for (tenant, _, _), number in counted(store, names.TENANT_CALLS).items()}
    assert TENANTS_MAX + 1 == len(by_tenant)
    assert 5 == by_tenant["other"]


def test_tokens_and_cost_are_counted_by_tenant_and_model():
    """Input and output apart; the store holds the cost in billionths of a dollar."""
    store = store_of(*[record(tenant="blue", model=LISTED, cost_nano_usd=1500)] * 2)

    assert {("blue", LISTED, "input"): 6, ("blue", LISTED, "output"): 8} == counted(store, names.TOKENS)
    assert {("blue", LISTED): 3000} == counted(store, names.COST_USD)


@pytest.mark.parametrize(
    ("cached", "results"),
    [(None, {}), (0, {"hit": 0, "miss": 3}), (2, {"hit": 2, "miss": 1}), (5, {"hit": 3, "miss": 0})],
)
def test_tokens_from_the_prompt_cache_are_counted_if_the_provider_counts_them(cached, results):
    """Unknown tokens count as neither. No prompt has more hits than tokens."""
    store = store_of(record(model=LISTED, cached_tokens=cached))

    expected = {(LISTED, result): tokens for result, tokens in results.items()}
    assert expected == counted(store, names.PROMPT_CACHE_TOKENS)


def test_estimated_usage_is_counted():
    """The tokens with the others, and the calls whose usage is estimated."""
    store = store_of(record(prompt_tokens=None, completion_tokens=7, usage_estimated=True), record())

    assert {("none", "other", "input"): 3, ("none", "other", "output"): 11} == counted(store, names.TOKENS)
    assert 1 == total(store, names.USAGE_ESTIMATED_CALLS)


def test_attempts_after_the_first_are_retries():
    """A call without an attempt has neither."""
    store = store_of(record(attempts=3), record(attempts=1), record(attempts=0, reason="OVERLOADED"))

    assert (4, 2) == (total(store, names.UPSTREAM_ATTEMPTS), total(store, names.UPSTREAM_RETRIES))


@pytest.mark.parametrize(
    ("changed", "outcome"),
    [
        ({"attempts": 1}, "ok"),
        ({"attempts": 2, "reason": "UPSTREAM_RESET"}, "error"),
        ({"attempts": 0, "reason": "UPSTREAM_OVERLOADED"}, "throttled"),
    ],
    ids=str,
)
def test_the_providers_part_in_a_call_is_counted(changed, outcome):
    """A provider's reason without an attempt means that the adaptive throttle rejected the call."""
    assert {(outcome,): 1} == counted(store_of(record(**changed)), names.UPSTREAM_CALLS)


@pytest.mark.parametrize(
    "changed",
    [{"attempts": 0}, {"attempts": 1, "reason": "CALLER_CANCELLED"}, {"attempts": 0, "reason": "OVERLOADED"}],
    ids=str,
)
def test_a_call_that_says_nothing_of_the_provider_is_not_counted_for_it(changed):
    """No attempt was made, or the failure is the caller's or our own."""
    assert {} == counted(store_of(record(**changed)), names.UPSTREAM_CALLS)


@pytest.mark.parametrize("reason", ["OVERLOADED", "CALLER_QUOTA", "DRAINING"])
def test_rejections_by_admission_control_are_counted(reason):
    """Its own reasons only."""
    store = store_of(record(attempts=0, reason=reason), record(reason="UPSTREAM_OVERLOADED"))

    assert {(reason,): 1} == counted(store, names.ADMISSION_REJECTED)


def test_a_callers_own_retry_is_counted():
    """The caller sends the number of its previous attempts."""
    assert 1 == total(store_of(record(previous_attempts=2), record()), names.CALLER_RETRIES)


def test_failures_have_their_own_durations():
    """A rejection takes no time and would make successful calls look fast."""
    store = store_of(record(duration_s=2.0), record(duration_s=0.1, reason="OVERLOADED"))

    assert {
        ("grpc", METHOD, "other", "ok"): (1, 2.0),
        ("grpc", METHOD, "other", "error"): (1, 0.1),
    } == observed(store, names.CALL_DURATION)


def test_time_per_token_is_the_mean_after_the_first():
    """One observation per stream; nothing is measured while it runs."""
    stream = {"messages_sent": 60, "first_token_s": 0.5, "duration_s": 2.5}
    store = store_of(record(completion_tokens=101, **stream))

    assert {("other",): (1, 0.02)} == observed(store, names.TIME_PER_OUTPUT_TOKEN)
    assert {(METHOD, "other"): (1, 0.5)} == observed(store, names.TIME_TO_FIRST_TOKEN)


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
def test_some_calls_have_no_time_per_token(without):
    """A unary call, one with a single token, and a failed stream."""
    stream = {"messages_sent": 60, "first_token_s": 0.5, "completion_tokens": 9, **without}

    assert {} == observed(store_of(record(**stream)), names.TIME_PER_OUTPUT_TOKEN)


def test_only_queued_calls_have_a_queue_wait():
    """A call that got a permit at once has not waited."""
    assert {(): (1, 0.25)} == observed(store_of(record(queued_s=0.25), record()), names.CALL_QUEUE_WAIT)


def test_a_bucket_includes_its_bound():
    """`le` means at most."""
    store = MetricStore()
    for seconds in (0.001, 0.0011, 99.0):
        store.observe((names.CALL_QUEUE_WAIT,), seconds)

    histogram = store.histograms[names.CALL_QUEUE_WAIT,]
    assert [1, 1, *[0] * 9, 1] == histogram[:-1]
    assert 99.0021 == pytest.approx(histogram[-1])
