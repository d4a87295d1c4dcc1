"""Tests of sync calls that an agent replaced or wrapped."""

import grpc
import pytest

from togetherchat_client.blocking import GeneratorCall, as_call, events_of


class Call:
    """A streaming call of gRPC, as far as the client uses it."""

    def __init__(self, *events):
        self._events = iter(events)
        self.cancelled = False

    def __iter__(self):
        return self

    def __next__(self):
        event = next(self._events)
        if isinstance(event, Exception):
            raise event
        return event

    def cancel(self):
        self.cancelled = True

    def code(self):
        return grpc.StatusCode.OK

    def details(self):
        return "of the call"

    def trailing_metadata(self):
        return (("x-upstream", "sandbox"),)


class FailedCall(grpc.RpcError):
    def code(self):
        return grpc.StatusCode.UNAVAILABLE

    def details(self):
        return "no"

    def trailing_metadata(self):
        return (("x-error-reason", "OVERLOADED"),)

    def cancel(self):
        return False


def replaced(call):
    """The generator that OpenTelemetry's instrumentation returns."""
    yield from call


def test_a_call_that_no_agent_replaced_is_kept():
    """There is no wrapper where none is needed."""
    call = Call()
    assert call is as_call(call)


def test_the_call_behind_a_generator_is_found_with_its_first_event():
    """Its trailers are there at the end, and `cancel` reaches it."""
    inner = Call("a", "b")
    call = as_call(replaced(inner))
    events = iter(call)
    assert "a" == next(events)
    assert not inner.cancelled
    call.cancel()
    assert (True, (("x-upstream", "sandbox"),)) == (inner.cancelled, call.trailing_metadata())


def test_a_whole_stream_has_its_status():
    """Code, details and trailers are those of the call."""
    call = as_call(replaced(Call("a", "b")))
    assert ["a", "b"] == list(call)
    assert (grpc.StatusCode.OK, "of the call") == (call.code(), call.details())


def test_an_error_has_its_status():
    """gRPC raises the call itself."""
    call = as_call(replaced(Call(FailedCall())))
    with pytest.raises(FailedCall):
        list(call)
    assert (grpc.StatusCode.UNAVAILABLE, "no", "OVERLOADED") == (
        call.code(),
        call.details(),
        dict(call.trailing_metadata())["x-error-reason"],
    )


def test_a_stream_that_is_cancelled_before_its_start_has_the_code_cancelled():
    """The generator has not started the call, and never does."""
    inner = Call("a")
    call = as_call(replaced(inner))
    call.cancel()
    with pytest.raises(grpc.RpcError):
        list(call)
    assert grpc.StatusCode.CANCELLED is call.code()
    assert "a" == next(inner)


def test_a_cancel_during_the_first_read_takes_effect_with_the_first_event():
    """A generator that runs cannot be closed, and its call is not known yet."""
    inner = Call("a", "b")

    def cancelled_meanwhile():
        call.cancel()
        yield from inner

    call = GeneratorCall(cancelled_meanwhile())
    assert "a" == next(call)
    assert inner.cancelled


def test_a_failure_of_an_agents_wrapper_does_not_hide_grpcs():
    """New Relic's wrapper raises AttributeError while it handles gRPC's exception."""

    class Wrapped(Call):
        def __next__(self):
            try:
                return super().__next__()
            except grpc.RpcError:
                return self.missing

    with pytest.raises(FailedCall):
        list(events_of(Wrapped("a", FailedCall())))


def test_an_attribute_error_of_its_own_is_kept():
    """Only an exception that hides gRPC's is replaced."""
    with pytest.raises(AttributeError, match="broken"):
        list(events_of(Call(AttributeError("broken"))))
