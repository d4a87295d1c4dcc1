"""What a call record has of an error."""

import pytest

from togetherchat_server.domain.call import Call
from togetherchat_server.domain.reasons import REJECTS_CREDENTIAL, Reason
from togetherchat_server.telemetry.call_record import call_record


def record_of(reason):
    call = Call(
        id="request-1",
        method="m",
        received_s=0.0,
        deadline_s=1.0,
        deadline_reason=Reason.CALL_TIMEOUT,
        upstream_key=None,
        subject="spiffe://a/b",
    )
    return call_record(
        call,
        protocol="grpc",
        code="ABORTED",
        reason=reason,
        messages_sent=0,
        usage=None,
        now_s=1.0,
        detail="a sentence",
    )


@pytest.mark.parametrize("reason", list(Reason))
def test_only_a_rejected_credential_has_a_detail(reason):
    """The message of any other error may be the provider's, and repeat a part of the request."""
    assert ("a sentence" if reason in REJECTS_CREDENTIAL else "") == record_of(reason).detail


def test_a_successful_call_has_no_detail():
    """Nor a reason. The subject is that of the call."""
    record = record_of(None)

    assert ("", "", "spiffe://a/b") == (record.reason, record.detail, record.subject)
