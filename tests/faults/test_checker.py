"""Each invariant of the checker, violated on purpose: each can fail."""

from dataclasses import replace

import pytest

from faults.checker import RETRIES_FLOOR, check
from faults.history import CallSeen, History, Probe, Record, Remains, RequestSeen

CALL = CallSeen(
    id="1-1",
    method="StreamComplete",
    action="stay",
    began_s=0.0,
    ended_s=1.0,
    code="OK",
    text="a b ",
    completed=True,
)
REQUEST = RequestSeen(
    id="1-1", script="valid", received_s=0.1, answered_s=0.9, closed_s=None, sent="a b ", whole=True
)
RECORD = Record(id="1-1", code="OK", reason="", attempts=1)
CUT = replace(CALL, id="1-2", code="UNAVAILABLE", reason="UPSTREAM_TRUNCATED", text="c ", completed=False)
CUT_REQUEST = replace(REQUEST, id="1-2", sent="c d ", whole=False, answered_s=None, closed_s=0.9)
CUT_RECORD = Record(id="1-2", code="UNAVAILABLE", reason="UPSTREAM_TRUNCATED", attempts=1)
LEFT = replace(CALL, id="1-3", action="cancel", code="CANCELLED", text="", completed=False)
LEFT_REQUEST = replace(REQUEST, id="1-3", sent="e ", whole=False, answered_s=None, closed_s=1.2)
LEFT_RECORD = Record(id="1-3", code="CANCELLED", reason="CALLER_CANCELLED", attempts=1)
NOTHING = Remains(calls_in_flight=0, upstream_requests=0, descriptors=0, memory_mib=0.0)
GOOD = History(
    calls=[CALL, CUT, LEFT],
    requests=[REQUEST, CUT_REQUEST, LEFT_REQUEST],
    records=[RECORD, CUT_RECORD, LEFT_RECORD],
    remains=NOTHING,
)


def changed(history=GOOD, *, call=None, request=None, record=None, remains=NOTHING):
    """A history with one entry replaced by another."""

    def replaced(entries, new):
        return entries if new is None else [new if one.id == new.id else one for one in entries]

    return History(
        calls=replaced(history.calls, call),
        requests=replaced(history.requests, request),
        records=replaced(history.records, record),
        remains=remains,
    )


def violated(history):
    return {violation.invariant for violation in check(history)}


def test_a_good_history_has_no_violation():
    """A complete call, a truncated one and a cancelled one violate nothing."""
    assert [] == check(GOOD)


def retried(times):
    """A number of concurrent calls with two attempts each."""
    calls = [replace(CALL, id=f"1-{number}") for number in range(times)]
    return History(
        calls=calls,
        requests=[
            replace(REQUEST, id=call.id, received_s=0.1 + second) for second in (0.0, 0.2) for call in calls
        ],
        records=[replace(RECORD, id=call.id, attempts=2) for call in calls],
        remains=NOTHING,
    )


VIOLATIONS = [
    ("one ending", "two records", replace(GOOD, records=[*GOOD.records, RECORD])),
    ("one ending", "no record", replace(GOOD, records=GOOD.records[1:])),
    ("one ending", "a record with another code", changed(record=replace(CUT_RECORD, code="OK", reason=""))),
    ("one ending", "a record with another reason", changed(record=replace(CUT_RECORD, reason="UPSTREAM_RESET"))),
    ("one ending", "a record without a call", replace(GOOD, records=[*GOOD.records, replace(LEFT_RECORD, id="1-9", attempts=0)])),
    ("no surprise", "UNKNOWN", changed(call=replace(CUT, code="UNKNOWN"))),
    ("no surprise", "an internal error", changed(call=replace(CUT, code="INTERNAL", reason="INTERNAL_ERROR"))),
    ("no surprise", "cancelled, but not by the caller", changed(call=replace(CUT, code="CANCELLED", reason=""))),
    ("no surprise", "hung until the deadline of last resort", changed(call=replace(CUT, code="DEADLINE_EXCEEDED", reason=""))),
    ("OK only if complete", "OK although the response was truncated", changed(request=replace(REQUEST, whole=False))),
    ("OK only if complete", "OK with a character too few", changed(call=replace(CALL, text="a b"))),
    ("OK only if complete", "OK without the last event", changed(call=replace(CALL, completed=False))),
    ("OK only if complete", "the last event, but not OK", changed(call=replace(CUT, completed=True))),
    ("only what was sent", "another call's text", changed(call=replace(CUT, text="a b "))),
    ("only what was sent", "more than was sent", changed(call=replace(CUT, text="c d e "))),
    ("only what was sent", "a piece twice", changed(call=replace(CUT, text="c c "))),
    ("only what was sent", "a gap", changed(call=replace(CUT, text="d "))),
    ("sockets end with calls", "300 ms late", changed(request=replace(LEFT_REQUEST, closed_s=1.3))),
    ("sockets end with calls", "never closed", changed(request=replace(LEFT_REQUEST, closed_s=None))),
    ("sockets end with calls", "response to a call that had ended", changed(request=replace(LEFT_REQUEST, answered_s=2.0, closed_s=None))),
    ("records match requests", "an attempt that the upstream did not receive", changed(record=replace(RECORD, attempts=2))),
    ("records match requests", "a request without a recorded attempt", changed(record=replace(LEFT_RECORD, attempts=0))),
    ("retries within budget", "every call retried", retried(RETRIES_FLOOR + 2)),
    ("nothing is left", "a call in flight", changed(remains=replace(NOTHING, calls_in_flight=1))),
    ("nothing is left", "an upstream request", changed(remains=replace(NOTHING, upstream_requests=1))),
    ("nothing is left", "open files", changed(remains=replace(NOTHING, descriptors=50))),
    ("nothing is left", "an error in the log", changed(remains=replace(NOTHING, lines=1))),
]  # fmt: skip


@pytest.mark.parametrize(("invariant", "how", "history"), VIOLATIONS, ids=[how for _, how, _ in VIOLATIONS])
def test_a_violation_is_found(invariant, how, history):
    """Each violation is found by its own invariant; some violate another one too."""
    assert invariant in violated(history)


def test_retries_within_the_budget_are_allowed():
    """The floor of the budget may be used up."""
    assert [] == check(retried(RETRIES_FLOOR))


def test_a_request_sent_again_on_a_new_connection_is_not_a_retry():
    """A request on an expired connection does not count towards the budget."""
    lost = replace(REQUEST, sent="", whole=False, answered_s=None, closed_s=0.1, replaced=True)

    assert [] == check(replace(GOOD, requests=[lost, *GOOD.requests]))


@pytest.mark.parametrize(("took_s", "is_violation"), [(0.01, True), (0.2, False)])
def test_a_late_socket_is_compared_with_the_probes(took_s, is_violation):
    """A delay of 300 ms is a violation, unless a liveness probe took 200 ms at that time."""
    late = changed(request=replace(LEFT_REQUEST, closed_s=1.3))
    probes = [
        Probe(began_s=0.0, took_s=0.9),
        Probe(began_s=1.1, took_s=took_s),
        Probe(began_s=1.4, took_s=0.9),
    ]

    assert is_violation == bool(check(replace(late, probes=probes)))
