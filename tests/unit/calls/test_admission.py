"""Places, the queue before them, and their end. Nothing waits: a turn is a future that is looked at."""

import pytest

from togetherchat_server.calls.admission import Admission, AdmissionLimits
from togetherchat_server.domain.reasons import Reason, ServiceError


def admission(max_concurrent_calls=2, *, short=lambda: False, clock=lambda: 0.0, **limits):
    return Admission(
        AdmissionLimits(max_concurrent_calls=max_concurrent_calls, **limits),
        clock=clock,
        short_of_memory=short,
    )


def refusal(admission, caller=""):
    with pytest.raises(ServiceError) as caught:
        admission.enter(caller)
    return caught.value.reason


def test_calls_beyond_the_bound_are_refused():
    """With all places taken the next call is OVERLOADED; a place given back is taken again."""
    places = admission(2)
    first, _ = places.enter(), places.enter()

    assert Reason.OVERLOADED is refusal(places)
    places.leave(first)
    assert None is places.enter().turn
    assert 2 == places.in_flight


async def test_a_few_calls_wait_for_a_place():
    """The queue takes as many as it holds, and no more."""
    places = admission(1, max_queued_calls=2)
    places.enter()
    waiting = [places.enter() for _ in range(2)]

    assert [False, False] == [ticket.turn.done() for ticket in waiting]
    assert (1, 2) == (places.in_flight, places.waiting)
    assert Reason.OVERLOADED is refusal(places)


async def test_the_first_in_the_queue_is_the_first_to_go():
    """A place that becomes free goes to who has waited longest."""
    places = admission(1, max_queued_calls=2)
    holder, first, second = (places.enter() for _ in range(3))

    places.leave(holder)
    assert (True, False) == (first.turn.done(), second.turn.done())
    places.leave(first)
    assert second.turn.done()
    assert (1, 0) == (places.in_flight, places.waiting)


async def test_nobody_waits_in_vain():
    """Four places and calls of two seconds free a place every half second: one can wait for half a second.

    When calls become short more can.
    """
    now = [0.0]
    places = admission(4, max_queued_calls=8, queue_timeout_s=0.5, clock=lambda: now[0])

    def a_call(held_s):
        tickets = [places.enter() for _ in range(4)]
        now[0] += held_s
        for ticket in tickets:
            places.leave(ticket)

    def who_may_wait():
        held = [places.enter() for _ in range(4)]
        waiting = []
        while len(waiting) < 100:
            try:
                waiting.append(places.enter())
            except ServiceError:
                break
        for ticket in [*waiting, *held]:
            places.leave(ticket)
        return len(waiting)

    assert 8 == who_may_wait()
    a_call(2.0)
    assert 1 == who_may_wait()
    for _ in range(100):
        a_call(0.5)
    assert 4 == who_may_wait()


async def test_who_leaves_the_queue_takes_no_place():
    """A caller who goes while waiting makes room in the queue alone."""
    places = admission(1, max_queued_calls=1)
    holder, gone = places.enter(), places.enter()

    places.leave(gone)
    waiting = places.enter()
    places.leave(holder)

    assert (True, False, 1) == (waiting.turn.done(), gone.turn.done(), places.in_flight)


async def test_a_place_that_was_given_to_someone_who_has_gone_is_passed_on():
    """The wait was cancelled, its task has not ended yet: the place is not lost."""
    places = admission(1, max_queued_calls=2)
    holder, gone, waiting = (places.enter() for _ in range(3))
    gone.turn.cancel()

    places.leave(holder)
    assert not waiting.turn.done()
    places.leave(gone)

    assert waiting.turn.done()
    places.leave(waiting)
    assert 0 == places.in_flight


async def test_no_place_is_lost_whatever_the_order():
    """A storm of arrivals, departures and cancelled waits ends with every place free."""
    places = admission(3, max_queued_calls=5)
    held = []
    for number in range(2000):
        try:
            held.append(places.enter())
        except ServiceError:
            ticket = held.pop(number * 7 % len(held))
            if ticket.turn is not None and number % 3 == 0:
                ticket.turn.cancel()
            places.leave(ticket)
        assert places.in_flight <= 3
    for ticket in held:
        places.leave(ticket)

    assert (0, 0) == (places.in_flight, places.waiting)


def test_one_caller_cannot_take_every_place():
    """A caller's own bound is CALLER_QUOTA; others are not touched, nor are callers unknown."""
    places = admission(10, max_concurrent_calls_per_caller=2)
    first = places.enter("a")
    places.enter("a")

    assert Reason.CALLER_QUOTA is refusal(places, "a")
    places.enter("b")
    places.enter()
    places.leave(first)
    assert None is places.enter("a").turn


def test_memory_comes_before_places():
    """A process that is short of memory takes no new call."""
    assert Reason.OVERLOADED is refusal(admission(short=lambda: True))


def test_a_draining_service_takes_no_call():
    """After the word to drain every new call is refused."""
    places = admission()
    places.refuse_new_calls(lambda: None)

    assert Reason.DRAINING is refusal(places)


async def test_the_end_of_the_last_call_is_told():
    """The drain hears of idleness once, when the last call ends, one that waited included."""
    told = []
    places = admission(1, max_queued_calls=1)
    holder, waiting = places.enter(), places.enter()

    places.refuse_new_calls(lambda: told.append("idle"))
    places.leave(holder)
    assert [] == told
    places.leave(waiting)

    assert ["idle"] == told


def test_an_idle_service_is_idle_at_once():
    """Nothing to wait for is told without waiting."""
    told = []

    admission().refuse_new_calls(lambda: told.append("idle"))

    assert ["idle"] == told
