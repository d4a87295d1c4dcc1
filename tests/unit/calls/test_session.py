import pytest

from togetherchat.v1 import chat_pb2 as chat
from togetherchat_server.calls.session import IncomingCall, Outcome, Sessions, deadline_margin_s
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.domain.secret import Secret

SERVER = Secret("server-key")


def create_sessions(mode="server", *, call_timeout_s=600.0, now=lambda: 1000.0, sinks=(), server_key=SERVER):
    return Sessions(
        key_mode=mode, server_key=lambda: server_key, call_timeout_s=call_timeout_s, clock=now, sinks=sinks
    )


def incoming(**changed):
    return IncomingCall(protocol="grpc", method="/s/M", **changed)


def rejection(mode, **changed):
    with pytest.raises(ServiceError) as caught:
        create_sessions(mode).open(incoming(**changed))
    return caught.value.reason


@pytest.mark.parametrize(
    ("left_s", "margin_s"),
    [(0.0, 0.0), (0.1, 0.02), (0.5, 0.1), (1.0, 0.1), (10.0, 0.1), (30.0, 0.3), (150.3, 1.503), (-1.0, 0.0)],
)
def test_a_call_ends_before_the_callers_own_timer_fires(left_s, margin_s):
    """The margin is 100 ms or 1%, whichever is more, and never more than a fifth."""
    assert pytest.approx(margin_s) == deadline_margin_s(left_s)


def test_the_callers_deadline_applies_if_it_is_earlier():
    """A call ends a margin before its caller's deadline."""
    call = create_sessions().open(incoming(seconds_left=10.0))

    assert (call.deadline_s, call.deadline_reason) == (1009.9, Reason.CALLER_DEADLINE)


@pytest.mark.parametrize("left_s", [None, 1e9])
def test_the_call_timeout_applies_otherwise(left_s):
    """Without a deadline, or with an absurd one, the service's own call timeout applies."""
    call = create_sessions(call_timeout_s=60.0).open(incoming(seconds_left=left_s))

    assert (call.deadline_s, call.deadline_reason) == (1060.0, Reason.CALL_TIMEOUT)


def test_a_valid_request_id_is_kept():
    """Callers find their call by their own id."""
    assert create_sessions().open(incoming(request_id="order-17/3")).id == "order-17/3"


@pytest.mark.parametrize("offered", ["", "with space", "é", "x" * 129, "a\nb", "a\x7fb"])
def test_an_invalid_request_id_is_replaced(offered):
    """An id that is empty or cannot be sent back is replaced by a new one."""
    first, second = (create_sessions().open(incoming(request_id=offered)).id for _ in range(2))

    assert 32 == len(first) == len(second)
    assert offered != first != second


def test_the_servers_key_is_used_in_server_mode():
    """The caller's `authorization` is not sent to the provider."""
    call = create_sessions("server").open(incoming(authorization="Bearer theirs"))

    assert (call.upstream_key, call.caller_brought_key) == (SERVER, False)


@pytest.mark.parametrize("mode", ["caller", "caller-then-server"])
def test_the_callers_key_is_used_in_the_caller_modes(mode):
    """A caller's own key is used, and marked as the caller's."""
    call = create_sessions(mode).open(incoming(authorization="bearer theirs"))

    assert (Secret("theirs"), True) == (call.upstream_key, call.caller_brought_key)


def test_the_servers_key_replaces_a_missing_one():
    """In caller-then-server mode, a call without a key uses the server's."""
    call = create_sessions("caller-then-server").open(incoming())

    assert (call.upstream_key, call.caller_brought_key) == (SERVER, False)


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        ("", Reason.MISSING_CREDENTIALS),
        ("Basic dTpw", Reason.INVALID_CREDENTIALS),
        ("Bearer", Reason.INVALID_CREDENTIALS),
        ("Bearer ", Reason.INVALID_CREDENTIALS),
        ("Bearer a b", Reason.INVALID_CREDENTIALS),
        ("Bearer a, Bearer b", Reason.INVALID_CREDENTIALS),
        ("Bearer k\x7f", Reason.INVALID_CREDENTIALS),
    ],
)
def test_a_caller_without_a_usable_key_is_rejected(authorization, reason):
    """In caller mode only `Bearer <key>` opens a call."""
    assert reason is rejection("caller", authorization=authorization)


@pytest.mark.parametrize(
    ("text", "number"), [("", 0), ("2", 2), ("-1", 0), ("x", 0), ("1" * 400, 0), ("²", 0)]
)
def test_an_invalid_number_of_earlier_attempts_counts_as_zero(text, number):
    """`grpc-previous-rpc-attempts` is untrusted text of the caller."""
    assert number == create_sessions().open(incoming(previous_attempts=text)).previous_attempts


def test_only_a_valid_traceparent_is_sent_to_the_provider():
    """Text that is not a trace context is dropped."""
    good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    assert (good, "") == tuple(
        create_sessions().open(incoming(traceparent=text)).traceparent for text in (good, good + "\r\nx: y")
    )


def test_a_call_writes_one_record():
    """The facts and the cost of a call go to every sink, without its text."""
    records = []
    clock = iter([1000.0, 1002.5])
    sessions = create_sessions(now=lambda: next(clock), sinks=(records.append,))
    call = sessions.open(incoming(request_id="r"))
    call.progress.attempts, call.progress.model, call.progress.first_event_s = 1, "m", 1000.5
    usage = chat.Usage(prompt_tokens=3, completion_tokens=4, cost_nano_usd=5)

    sessions.close(call, "grpc", Outcome(code="OK", reason=None, messages_sent=2, usage=usage))

    (record,) = records
    assert (
        record.id,
        record.protocol,
        record.method,
        record.code,
        record.reason,
        record.model,
        record.attempts,
        record.duration_s,
        record.first_token_s,
        record.messages_sent,
        record.prompt_tokens,
        record.completion_tokens,
        record.usage_estimated,
        record.cost_nano_usd,
    ) == ("r", "grpc", "/s/M", "OK", "", "m", 1, 2.5, 0.5, 2, 3, 4, False, 5)


def test_a_completion_that_broke_off_is_recorded_with_its_tokens_so_far():
    """The deltas received count as tokens, marked as an estimate."""
    records = []
    sessions = create_sessions(sinks=(records.append,))
    call = sessions.open(incoming())
    call.progress.output_deltas = 7

    sessions.close(call, "grpc", Outcome(code="UNAVAILABLE", reason=Reason.UPSTREAM_TRUNCATED))

    assert (
        records[0].completion_tokens,
        records[0].usage_estimated,
        records[0].reason,
    ) == (7, True, "UPSTREAM_TRUNCATED")
