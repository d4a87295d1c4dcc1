"""Admission control: permits, the queue and draining. No test waits: they inspect the futures."""

import pytest

from togetherchat_server.calls.admission import Admission, AdmissionLimits
from togetherchat_server.domain.reasons import Reason, ServiceError


def create_admission(max_concurrent_calls=2, *, short=lambda: False, clock=lambda: 0.0, **limits):
    return Admission(
        AdmissionLimits(max_concurrent_calls=max_concurrent_calls, **limits),
        clock=clock,
        short_of_memory=short,
    )


def rejection(admission, caller=""):
    with pytest.raises(ServiceError) as caught:
        admission.acquire(caller)
    return caught.value.reason


def test_calls_beyond_the_bound_are_rejected():
    """With all permits in use the next call is OVERLOADED; a released permit is used again."""
    admission = create_admission(2)
    first, _ = admission.acquire(), admission.acquire()

    assert Reason.OVERLOADED is rejection(admission)
    admission.release(first)
    assert None is admission.acquire().granted
    assert 2 == admission.in_flight


async def test_a_few_calls_wait_for_a_permit():
    """The queue holds as many calls as its bound, and no more."""
    admission = create_admission(1, max_queued_calls=2)
    admission.acquire()
    queued = [admission.acquire() for _ in range(2)]

    assert [False, False] == [permit.granted.done() for permit in queued]
    assert (1, 2) == (admission.in_flight, admission.queued)
    assert Reason.OVERLOADED is rejection(admission)


async def test_the_queue_is_first_come_first_served():
    """A released permit goes to the call that has waited longest."""
    admission = create_admission(1, max_queued_calls=2)
    holder, first, second = (admission.acquire() for _ in range(3))

    admission.release(holder)
    assert (True, False) == (first.granted.done(), second.granted.done())
    admission.release(first)
    assert second.granted.done()
    assert (1, 0) == (admission.in_flight, admission.queued)


async def test_no_call_is_queued_that_would_time_out():
    """Four permits and calls of 2 s release one permit every 0.5 s: one call can wait for 0.5 s.

    More calls can wait when calls become shorter.
    """
    now = [0.0]
    admission = create_admission(4, max_queued_calls=8, queue_timeout_s=0.5, clock=lambda: now[0])

    def run_calls(duration_s):
        permits = [admission.acquire() for _ in range(4)]
        now[0] += duration_s
        for permit in permits:
            admission.release(permit)

    def count_queued():
        held = [admission.acquire() for _ in range(4)]
        queued = []
        while len(queued) < 100:
            try:
                queued.append(admission.acquire())
            except ServiceError:
                break
        for permit in [*queued, *held]:
            admission.release(permit)
        return len(queued)

    assert 8 == count_queued()
    run_calls(2.0)
    assert 1 == count_queued()
    for _ in range(100):
        run_calls(0.5)
    assert 4 == count_queued()


async def test_a_call_that_leaves_the_queue_gets_no_permit():
    """A call that ends while it is queued frees its entry in the queue only."""
    admission = create_admission(1, max_queued_calls=1)
    holder, gone = admission.acquire(), admission.acquire()

    admission.release(gone)
    queued = admission.acquire()
    admission.release(holder)

    assert (True, False, 1) == (queued.granted.done(), gone.granted.done(), admission.in_flight)


async def test_a_permit_granted_to_a_cancelled_call_is_passed_on():
    """The wait was cancelled but its task has not ended yet: the permit is not lost."""
    admission = create_admission(1, max_queued_calls=2)
    holder, gone, queued = (admission.acquire() for _ in range(3))
    gone.granted.cancel()

    admission.release(holder)
    assert not queued.granted.done()
    admission.release(gone)

    assert queued.granted.done()
    admission.release(queued)
    assert 0 == admission.in_flight


async def test_no_permit_is_lost_in_any_order():
    """After many calls, ends of calls and cancelled waits, every permit is free."""
    admission = create_admission(3, max_queued_calls=5)
    held = []
    for number in range(2000):
        try:
            held.append(admission.acquire())
        except ServiceError:
            permit = held.pop(number * 7 % len(held))
            if permit.granted is not None and number % 3 == 0:
                permit.granted.cancel()
            admission.release(permit)
        assert admission.in_flight <= 3
    for permit in held:
        admission.release(permit)

    assert (0, 0) == (admission.in_flight, admission.queued)


def test_one_caller_cannot_hold_every_permit():
    """A caller beyond its own bound gets CALLER_QUOTA; other and unknown callers are not affected."""
    admission = create_admission(10, max_concurrent_calls_per_caller=2)
    first = admission.acquire("a")
    admission.acquire("a")

    assert Reason.CALLER_QUOTA is rejection(admission, "a")
    admission.acquire("b")
    admission.acquire()
    admission.release(first)
    assert None is admission.acquire("a").granted


def test_a_process_short_of_memory_rejects_new_calls():
    """Memory is checked before permits."""
    assert Reason.OVERLOADED is rejection(create_admission(short=lambda: True))


def test_a_draining_service_rejects_new_calls():
    """After draining has started, every new call is rejected."""
    admission = create_admission()
    admission.start_draining(lambda: None)

    assert Reason.DRAINING is rejection(admission)


async def test_the_end_of_the_last_call_is_reported():
    """`on_idle` is called once, when the last call ends, queued calls included."""
    idle = []
    admission = create_admission(1, max_queued_calls=1)
    holder, queued = admission.acquire(), admission.acquire()

    admission.start_draining(lambda: idle.append("idle"))
    admission.release(holder)
    assert [] == idle
    admission.release(queued)

    assert ["idle"] == idle


def test_an_idle_service_drains_at_once():
    """With no call in flight, `on_idle` is called immediately."""
    idle = []

    create_admission().start_draining(lambda: idle.append("idle"))

    assert ["idle"] == idle
