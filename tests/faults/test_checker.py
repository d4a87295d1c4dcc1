"""Each law of the checker, broken on purpose: a check that cannot fail is none."""

from dataclasses import replace

import pytest

from faults.checker import RETRIES_FLOOR, check
from faults.history import Booked, CallSeen, History, Probe, Remains, RequestSeen

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
    id="1-1", script="well", received_s=0.1, answered_s=0.9, closed_s=None, sent="a b ", whole=True
)
RECORD = Booked(id="1-1", code="OK", reason="", attempts=1)
CUT = replace(CALL, id="1-2", code="UNAVAILABLE", reason="UPSTREAM_TRUNCATED", text="c ", completed=False)
CUT_REQUEST = replace(REQUEST, id="1-2", sent="c d ", whole=False, answered_s=None, closed_s=0.9)
CUT_RECORD = Booked(id="1-2", code="UNAVAILABLE", reason="UPSTREAM_TRUNCATED", attempts=1)
LEFT = replace(CALL, id="1-3", action="cancel", code="CANCELLED", text="", completed=False)
LEFT_REQUEST = replace(REQUEST, id="1-3", sent="e ", whole=False, answered_s=None, closed_s=1.2)
LEFT_RECORD = Booked(id="1-3", code="CANCELLED", reason="CALLER_CANCELLED", attempts=1)
NOTHING = Remains(calls_in_flight=0, upstream_requests=0, descriptors=0, memory_mib=0.0)
GOOD = History(
    calls=[CALL, CUT, LEFT],
    requests=[REQUEST, CUT_REQUEST, LEFT_REQUEST],
    booked=[RECORD, CUT_RECORD, LEFT_RECORD],
    remains=NOTHING,
)


def but(history=GOOD, *, call=None, request=None, record=None, remains=NOTHING):
    """A history with one entry in the place of another."""

    def swapped(entries, new):
        return entries if new is None else [new if one.id == new.id else one for one in entries]

    return History(
        calls=swapped(history.calls, call),
        requests=swapped(history.requests, request),
        booked=swapped(history.booked, record),
        remains=remains,
    )


def laws(history):
    return {violation.law for violation in check(history)}


def test_a_good_history_breaks_no_law():
    """A whole answer, one that was cut, and one that its caller left."""
    assert [] == check(GOOD)


def retried(times):
    """So many calls at once, each of them tried twice."""
    calls = [replace(CALL, id=f"1-{number}") for number in range(times)]
    return History(
        calls=calls,
        requests=[
            replace(REQUEST, id=call.id, received_s=0.1 + second) for second in (0.0, 0.2) for call in calls
        ],
        booked=[replace(RECORD, id=call.id, attempts=2) for call in calls],
        remains=NOTHING,
    )


BROKEN = [
    ("one ending", "in the books twice", replace(GOOD, booked=[*GOOD.booked, RECORD])),
    ("one ending", "not in the books", replace(GOOD, booked=GOOD.booked[1:])),
    ("one ending", "in the books with another code", but(record=replace(CUT_RECORD, code="OK", reason=""))),
    ("one ending", "in the books with another reason", but(record=replace(CUT_RECORD, reason="UPSTREAM_RESET"))),
    ("one ending", "a call that nobody made", replace(GOOD, booked=[*GOOD.booked, replace(LEFT_RECORD, id="1-9", attempts=0)])),
    ("no surprise", "UNKNOWN", but(call=replace(CUT, code="UNKNOWN"))),
    ("no surprise", "an internal error", but(call=replace(CUT, code="INTERNAL", reason="INTERNAL_ERROR"))),
    ("no surprise", "cancelled, and not by the caller", but(call=replace(CUT, code="CANCELLED", reason=""))),
    ("no surprise", "hung until the deadline of last resort", but(call=replace(CUT, code="DEADLINE_EXCEEDED", reason=""))),
    ("OK only if whole", "OK although the answer was cut", but(request=replace(REQUEST, whole=False))),
    ("OK only if whole", "OK with a character too few", but(call=replace(CALL, text="a b"))),
    ("OK only if whole", "OK without the last event", but(call=replace(CALL, completed=False))),
    ("OK only if whole", "the last event, and not OK", but(call=replace(CUT, completed=True))),
    ("only what was sent", "another call's text", but(call=replace(CUT, text="a b "))),
    ("only what was sent", "more than was sent", but(call=replace(CUT, text="c d e "))),
    ("only what was sent", "a piece twice", but(call=replace(CUT, text="c c "))),
    ("only what was sent", "a gap", but(call=replace(CUT, text="d "))),
    ("sockets end with calls", "300 ms late", but(request=replace(LEFT_REQUEST, closed_s=1.3))),
    ("sockets end with calls", "never closed", but(request=replace(LEFT_REQUEST, closed_s=None))),
    ("sockets end with calls", "answered to nobody", but(request=replace(LEFT_REQUEST, answered_s=2.0, closed_s=None))),
    ("books balance", "an attempt that the upstream never saw", but(record=replace(RECORD, attempts=2))),
    ("books balance", "a request that is in no book", but(record=replace(LEFT_RECORD, attempts=0))),
    ("retries within budget", "everything twice", retried(RETRIES_FLOOR + 2)),
    ("nothing is left", "a call in flight", but(remains=replace(NOTHING, calls_in_flight=1))),
    ("nothing is left", "an upstream request", but(remains=replace(NOTHING, upstream_requests=1))),
    ("nothing is left", "open files", but(remains=replace(NOTHING, descriptors=50))),
    ("nothing is left", "an error in the log", but(remains=replace(NOTHING, lines=1))),
]  # fmt: skip


@pytest.mark.parametrize(("law", "how", "history"), BROKEN, ids=[how for _, how, _ in BROKEN])
def test_a_broken_history_is_noticed(law, how, history):
    """By its own law; some take another with them."""
    assert law in laws(history)


def test_retries_within_the_budget_are_none_too_many():
    """The floor is for the taking."""
    assert [] == check(retried(RETRIES_FLOOR))


def test_what_is_sent_again_on_a_fresh_connection_is_no_retry():
    """A connection that ran out as it was used again costs nothing of the budget."""
    lost = replace(REQUEST, sent="", whole=False, answered_s=None, closed_s=0.1, replaced=True)

    assert [] == check(replace(GOOD, requests=[lost, *GOOD.requests]))


@pytest.mark.parametrize(("took_s", "broken"), [(0.01, True), (0.2, False)])
def test_a_socket_is_late_only_beyond_what_the_machine_makes_late(took_s, broken):
    """300 ms are too many, unless the service took 200 ms at that time to say that it is alive."""
    late = but(request=replace(LEFT_REQUEST, closed_s=1.3))
    probes = [
        Probe(began_s=0.0, took_s=0.9),
        Probe(began_s=1.1, took_s=took_s),
        Probe(began_s=1.4, took_s=0.9),
    ]

    assert broken == bool(check(replace(late, probes=probes)))
