"""Admission control: permits, the queue and draining. No test waits: they inspect the futures."""

import pytest

from togetherchat_server.calls.admission import Admission, AdmissionLimits, PermitState
from togetherchat_server.domain.reasons import Reason, ServiceError


def create_admission(
    max_concurrent_calls=2, *, short=lambda: False, saturated=lambda: False, clock=lambda: 0.0, **limits
):
    return Admission(
        AdmissionLimits(max_concurrent_calls=max_concurrent_calls, **limits),
        clock=clock,
        short_of_memory=short,
        saturated=saturated,
    )


def accept(admission, caller="", *, weight=1.0):
    """Accept a call and let it acquire: return its permit, and the future of a queued one."""
    permit = admission.accept(caller, weight=weight)
    return permit, admission.request(permit)


def rejection(admission, caller=""):
    with pytest.raises(ServiceError) as caught:
        admission.accept(caller)
    return caught.value.reason


def test_calls_beyond_the_bound_are_rejected():
    """With all permits in use the next call is OVERLOADED; a released permit is used again."""
    admission = create_admission(2)
    (first, _), _ = accept(admission), accept(admission)

    assert Reason.OVERLOADED is rejection(admission)
    admission.release(first)
    _, granted = accept(admission)
    assert granted is None
    assert 2 == admission.in_flight


def test_calls_whose_request_is_being_read_count():
    """However slowly callers send, no more calls are accepted than permits and the queue can take."""
    admission = create_admission(2, max_queued_calls=1)
    reading = [admission.accept() for _ in range(3)]

    assert Reason.OVERLOADED is rejection(admission)
    assert (3, 0) == (admission.in_flight, admission.queued)
    admission.release(reading.pop())
    admission.accept()


async def test_a_call_that_is_being_read_keeps_no_permit():
    """A caller that sends slowly does not delay a call that is ready."""
    admission = create_admission(1, max_queued_calls=1)
    slow = admission.accept()
    ready, granted = accept(admission)

    assert (None, PermitState.GRANTED) == (granted, ready.state)
    queued = admission.request(slow)
    assert not queued.done()
    admission.release(ready)
    assert queued.done()


async def test_a_few_calls_wait_for_a_permit():
    """The queue holds as many calls as its bound, and no more."""
    admission = create_admission(1, max_queued_calls=2)
    accept(admission)
    queued = [accept(admission)[1] for _ in range(2)]

    assert [False, False] == [granted.done() for granted in queued]
    assert (1, 2) == (admission.in_flight, admission.queued)
    assert Reason.OVERLOADED is rejection(admission)


async def test_the_queue_is_first_come_first_served():
    """A released permit goes to the call that has waited longest."""
    admission = create_admission(1, max_queued_calls=2)
    (holder, _), (first, granted_first), (_, granted_second) = (accept(admission) for _ in range(3))

    admission.release(holder)
    assert (True, False) == (granted_first.done(), granted_second.done())
    admission.release(first)
    assert granted_second.done()
    assert (1, 0) == (admission.in_flight, admission.queued)


async def test_no_call_is_queued_that_would_time_out():
    """Four permits and calls of 2 s release one permit every 0.5 s: one call can wait for 0.5 s.

    More calls can wait when calls become shorter.
    """
    now = [0.0]
    admission = create_admission(4, max_queued_calls=8, queue_timeout_s=0.5, clock=lambda: now[0])

    def run_calls(duration_s):
        permits = [accept(admission)[0] for _ in range(4)]
        now[0] += duration_s
        for permit in permits:
            admission.release(permit)

    def count_queued():
        held = [accept(admission)[0] for _ in range(4)]
        queued = []
        while len(queued) < 100:
            try:
                queued.append(accept(admission)[0])
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
    (holder, _), (gone, granted_gone) = accept(admission), accept(admission)

    admission.release(gone)
    _, granted = accept(admission)
    admission.release(holder)

    assert (True, False, 1) == (granted.done(), granted_gone.done(), admission.in_flight)


async def test_a_permit_granted_to_a_cancelled_call_is_passed_on():
    """The wait was cancelled but its task has not ended yet: the permit is not lost."""
    admission = create_admission(1, max_queued_calls=2)
    (holder, _), (gone, granted_gone), (queued, granted) = (accept(admission) for _ in range(3))
    granted_gone.cancel()

    admission.release(holder)
    assert not granted.done()
    admission.release(gone)

    assert granted.done()
    admission.release(queued)
    assert 0 == admission.in_flight


async def test_no_permit_is_lost_in_any_order():
    """After many calls, ends of calls and cancelled waits, every permit is free."""
    admission = create_admission(3, max_queued_calls=5)
    held = []
    for number in range(2000):
        try:
            permit = admission.accept()
        except ServiceError:
            permit, granted = held.pop(number * 7 % len(held))
            if granted is not None and number % 3 == 0:
                granted.cancel()
            admission.release(permit)
        else:
            held.append((permit, admission.request(permit) if number % 5 else None))
    for permit, _ in held:
        admission.release(permit)

    assert (0, 0) == (admission.in_flight, admission.queued)
    assert [None] * 3 == [accept(admission)[1] for _ in range(3)]


def test_a_permit_is_released_once():
    """A second release of the same permit changes nothing."""
    admission = create_admission(2)
    (first, _), _ = accept(admission), accept(admission)

    admission.release(first)
    admission.release(first)

    assert 1 == admission.in_flight
    accept(admission)
    assert Reason.OVERLOADED is rejection(admission)


def test_one_caller_cannot_hold_every_permit():
    """A caller beyond its own bound gets CALLER_QUOTA; other and unknown callers are not affected."""
    admission = create_admission(10, max_concurrent_calls_per_caller=2)
    first = admission.accept("a")
    admission.accept("a")

    assert Reason.CALLER_QUOTA is rejection(admission, "a")
    admission.accept("b")
    admission.accept()
    admission.release(first)
    admission.accept("a")


def test_a_process_short_of_memory_rejects_new_calls():
    """Memory is checked before permits."""
    assert Reason.OVERLOADED is rejection(create_admission(short=lambda: True))


def test_a_draining_service_rejects_new_calls():
    """After draining has started, every new call is rejected."""
    admission = create_admission()
    admission.start_draining(lambda: None)

    assert Reason.DRAINING is rejection(admission)


async def test_the_end_of_the_last_call_is_reported():
    """`on_idle` is called once, when the last call ends: queued ones and those being read included."""
    idle = []
    admission = create_admission(1, max_queued_calls=2)
    (holder, _), (queued, _) = accept(admission), accept(admission)
    reading = admission.accept()

    admission.start_draining(lambda: idle.append("idle"))
    admission.release(holder)
    admission.release(queued)
    assert [] == idle
    admission.release(reading)

    assert ["idle"] == idle


def test_an_idle_service_drains_at_once():
    """With no call in flight, `on_idle` is called immediately."""
    idle = []

    create_admission().start_draining(lambda: idle.append("idle"))

    assert ["idle"] == idle


def granted_to(admission, caller, calls, **options):
    """Return how many of some calls of one caller get a permit at once."""
    return sum(accept(admission, caller, **options)[1] is None for _ in range(calls))


async def test_a_caller_alone_has_every_permit():
    """Idle capacity is free to all."""
    assert 100 == granted_to(create_admission(100, max_queued_calls=10), "a", 105)


async def test_the_last_tenth_is_for_callers_below_their_share():
    """While another caller is known, the first may have 90 of 100 permits, and the other takes the rest."""
    admission = create_admission(100, max_queued_calls=100)
    admission.release(accept(admission, "b")[0])

    assert 90 == granted_to(admission, "a", 95)
    assert 10 == granted_to(admission, "b", 15)
    assert (100, 10) == (admission.in_flight, admission.queued)


async def test_a_caller_is_known_for_a_minute_after_its_last_call():
    """Then its share is free to the others."""
    now = [0.0]
    admission = create_admission(100, max_queued_calls=100, clock=lambda: now[0])
    admission.release(accept(admission, "b")[0])

    assert 90 == granted_to(admission, "a", 91)
    now[0] = 61.0
    assert 10 == granted_to(admission, "c", 10)
    assert 0 == granted_to(admission, "a", 1)


async def test_capacity_is_passed_on_by_turns():
    """A caller with many queued calls does not delay one with few. Weight 2 is served twice as often."""
    admission = create_admission(4, max_queued_calls=100)
    held = [accept(admission, "x")[0] for _ in range(4)]
    queued = [("a", accept(admission, "a", weight=2.0)[1]) for _ in range(20)]
    queued += [("b", accept(admission, "b")[1]) for _ in range(20)]
    for permit in held:
        admission.release(permit)

    assert ["a", "a", "a", "b"] == sorted(name for name, granted in queued if granted.done())


async def test_a_full_queue_gives_up_the_newest_call_of_the_longest():
    """The other caller is accepted, and the call that was given up fails at once."""
    admission = create_admission(1, max_queued_calls=4)
    accept(admission, "a")
    queued = [accept(admission, "a")[1] for _ in range(4)]

    assert Reason.OVERLOADED is rejection(admission, "a")
    _, first = accept(admission, "b")
    _, second = accept(admission, "b")
    assert Reason.OVERLOADED is rejection(admission, "b")

    assert [False, False, True, True] == [granted.done() for granted in queued]
    assert Reason.OVERLOADED is queued[3].exception().reason
    assert (1, 4) == (admission.in_flight, admission.queued)
    assert [False, False] == [first.done(), second.done()]


async def test_calls_that_are_read_are_given_up_like_queued_ones():
    """A caller that sends a thousand heads and no body keeps nobody else out."""
    admission = create_admission(2, max_queued_calls=2)
    told = []
    reading = [admission.accept("a") for _ in range(4)]
    for permit in reading:
        permit.on_shed = told.append

    assert None is accept(admission, "b")[1]
    assert [Reason.OVERLOADED] == [error.reason for error in told]
    assert [PermitState.ACCEPTED] * 3 + [PermitState.RELEASED] == [permit.state for permit in reading]


async def test_a_call_that_is_given_up_costs_no_quota():
    """Each call that entered leaves once, and one that a quota rejects displaces nobody."""
    entered = []

    class Quotas:
        def enter(self, caller):
            if caller == "poor":
                raise ServiceError(Reason.CALLER_QUOTA, "used up")
            entered.append(caller)

        def leave(self, caller):
            entered.remove(caller)

    admission = Admission(
        AdmissionLimits(max_concurrent_calls=1, max_queued_calls=2), clock=lambda: 0.0, quotas=Quotas()
    )
    permits = [accept(admission, "a")[0] for _ in range(3)]
    assert Reason.CALLER_QUOTA is rejection(admission, "poor")
    assert ["a"] * 3 == entered
    permits.append(accept(admission, "b")[0])
    assert ["a", "a", "b"] == entered
    for permit in permits:
        admission.release(permit)
    assert [] == entered


async def test_long_calls_of_a_forgotten_caller_are_counted():
    """A caller whose calls were read for more than a minute has not called since."""
    now = [0.0]
    admission = create_admission(10, max_queued_calls=10, clock=lambda: now[0])
    permit = admission.accept("a")
    now[0] = 120.0
    admission.accept("b")
    assert None is admission.request(permit)
    admission.release(permit)
    assert 1 == admission.in_flight


async def test_short_of_cpu_time_only_callers_with_their_share_are_rejected():
    """A caller alone is rejected; one that holds little is not, while another holds much."""
    short = [False]
    admission = create_admission(100, saturated=lambda: short[0])
    granted_to(admission, "a", 20)
    short[0] = True

    assert Reason.OVERLOADED is rejection(admission, "a")
    assert 20 == sum(accepted_when_short(admission, "b") for _ in range(30))
    assert Reason.OVERLOADED is rejection(admission, "a")


def accepted_when_short(admission, caller):
    try:
        accept(admission, caller)
    except ServiceError:
        return False
    return True


async def test_calls_of_nobody_known_share_nothing():
    """Over gRPC an address is known after the request was read. Until then the call has no party of its own."""
    admission = create_admission(100, max_queued_calls=2)
    permits = [admission.accept() for _ in range(102)]

    assert Reason.OVERLOADED is rejection(admission)
    granted = [admission.request(permit, party="10.0.0.1") is None for permit in permits]
    assert (100, 2) == (granted.count(True), granted.count(False))
    assert Reason.OVERLOADED is rejection(admission)
    for permit in permits:
        admission.release(permit)
    assert (0, 0) == (admission.in_flight, admission.queued)
