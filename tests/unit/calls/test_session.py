import pytest

from togetherchat.v1 import chat_pb2 as chat
from togetherchat_server.calls.session import IncomingCall, Outcome, Sessions, deadline_margin_s
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.domain.secret import Secret

SERVER = Secret("server-key")


def desk(mode="server", *, call_timeout_s=600.0, now=lambda: 1000.0, sinks=(), server_key=SERVER):
    return Sessions(
        key_mode=mode, server_key=lambda: server_key, call_timeout_s=call_timeout_s, clock=now, sinks=sinks
    )


def arrival(**changed):
    return IncomingCall(protocol="grpc", method="/s/M", **changed)


def refusal(mode, **changed):
    with pytest.raises(ServiceError) as caught:
        desk(mode).open(arrival(**changed))
    return caught.value.reason


@pytest.mark.parametrize(
    ("left_s", "margin_s"),
    [(0.0, 0.0), (0.1, 0.02), (0.5, 0.1), (1.0, 0.1), (10.0, 0.1), (30.0, 0.3), (150.3, 1.503), (-1.0, 0.0)],
)
def test_the_answer_comes_before_the_callers_own_timer(left_s, margin_s):
    """100 ms or one part in a hundred, whichever is more, and never more than a fifth."""
    assert pytest.approx(margin_s) == deadline_margin_s(left_s)


def test_the_callers_deadline_rules_when_it_is_nearer():
    """A call ends a margin before its caller's deadline."""
    call = desk().open(arrival(seconds_left=10.0))

    assert (call.deadline_s, call.deadline_reason) == (1009.9, Reason.CALLER_DEADLINE)


@pytest.mark.parametrize("left_s", [None, 1e9])
def test_the_services_own_limit_rules_otherwise(left_s):
    """Without a deadline, or with an absurd one, the service's own limit holds."""
    call = desk(call_timeout_s=60.0).open(arrival(seconds_left=left_s))

    assert (call.deadline_s, call.deadline_reason) == (1060.0, Reason.CALL_TIMEOUT)


def test_a_good_request_id_is_kept():
    """Callers find their call under their own id."""
    assert desk().open(arrival(request_id="order-17/3")).id == "order-17/3"


@pytest.mark.parametrize("offered", ["", "with space", "é", "x" * 129, "a\nb", "a\x7fb"])
def test_a_bad_request_id_is_replaced(offered):
    """An id that could not be sent back, or is none, gives way to a new one."""
    first, second = (desk().open(arrival(request_id=offered)).id for _ in range(2))

    assert 32 == len(first) == len(second)
    assert offered != first != second


def test_the_servers_key_pays_in_server_mode():
    """What the caller sends as authorization is not for the provider."""
    call = desk("server").open(arrival(authorization="Bearer theirs"))

    assert (call.upstream_key, call.caller_brought_key) == (SERVER, False)


@pytest.mark.parametrize("mode", ["caller", "caller-then-server"])
def test_the_callers_key_pays_where_it_may(mode):
    """A caller's own key is used, and known to be the caller's."""
    call = desk(mode).open(arrival(authorization="bearer theirs"))

    assert (Secret("theirs"), True) == (call.upstream_key, call.caller_brought_key)


def test_the_servers_key_stands_in_for_a_missing_one():
    """caller-then-server: no key brought, the server's is used."""
    call = desk("caller-then-server").open(arrival())

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
def test_a_caller_without_a_usable_key_is_refused(authorization, reason):
    """In caller mode only `Bearer <key>` opens a call."""
    assert reason is refusal("caller", authorization=authorization)


@pytest.mark.parametrize(
    ("text", "number"), [("", 0), ("2", 2), ("-1", 0), ("x", 0), ("1" * 400, 0), ("²", 0)]
)
def test_the_number_of_earlier_attempts_is_read_with_care(text, number):
    """`grpc-previous-rpc-attempts` is the caller's text."""
    assert number == desk().open(arrival(previous_attempts=text)).previous_attempts


def test_only_a_well_formed_traceparent_travels_on():
    """What is no trace context is dropped rather than sent to the provider."""
    good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    assert (good, "") == tuple(
        desk().open(arrival(traceparent=text)).traceparent for text in (good, good + "\r\nx: y")
    )


def test_a_call_leaves_one_record():
    """What a call was and cost goes to every sink, without its text."""
    records = []
    clock = iter([1000.0, 1002.5])
    bureau = desk(now=lambda: next(clock), sinks=(records.append,))
    call = bureau.open(arrival(request_id="r"))
    call.progress.attempts, call.progress.model, call.progress.first_event_s = 1, "m", 1000.5
    usage = chat.Usage(prompt_tokens=3, completion_tokens=4, cost_nano_usd=5)

    bureau.close(call, "grpc", Outcome(code="OK", reason=None, messages_sent=2, usage=usage))

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


def test_an_answer_that_broke_off_is_recorded_with_what_had_come():
    """Pieces received count as tokens, flagged as an estimate."""
    records = []
    bureau = desk(sinks=(records.append,))
    call = bureau.open(arrival())
    call.progress.output_pieces = 7

    bureau.close(call, "grpc", Outcome(code="UNAVAILABLE", reason=Reason.UPSTREAM_TRUNCATED))

    assert (
        records[0].completion_tokens,
        records[0].usage_estimated,
        records[0].reason,
    ) == (7, True, "UPSTREAM_TRUNCATED")
