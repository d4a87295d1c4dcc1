import pytest

from togetherchat_server.calls.admission import Admission
from togetherchat_server.errors import Kind, ServiceError


def refusal(admission):
    with pytest.raises(ServiceError) as caught:
        admission.take()
    return caught.value.kind


def test_calls_beyond_the_bound_are_refused():
    """With all slots taken the next call is OVERLOADED; a slot given back is taken again."""
    admission = Admission(calls_max=2)
    admission.take()
    admission.take()

    assert Kind.OVERLOADED is refusal(admission)
    admission.give_back()
    admission.take()
    assert admission.in_flight == 2


def test_a_draining_service_takes_no_call():
    """After the word to drain every new call is refused."""
    admission = Admission(calls_max=2)
    admission.refuse_new_calls(lambda: None)

    assert Kind.DRAINING is refusal(admission)


def test_the_end_of_the_last_call_is_told():
    """The drain hears of idleness once, when the last call ends."""
    told = []
    admission = Admission(calls_max=2)
    admission.take()
    admission.take()

    admission.refuse_new_calls(lambda: told.append("idle"))
    admission.give_back()
    assert told == []
    admission.give_back()

    assert told == ["idle"]


def test_an_idle_service_is_idle_at_once():
    """Nothing to wait for is told without waiting."""
    told = []

    Admission(calls_max=1).refuse_new_calls(lambda: told.append("idle"))

    assert told == ["idle"]
