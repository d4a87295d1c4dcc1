"""A call, for tests of what happens to it."""

from itertools import count

from support.quotas import NOON_US
from togetherchat_server.domain.call import Call
from togetherchat_server.domain.reasons import Reason

_numbers = count(1)


def call_of(tenant="", **changes):
    """A call of a tenant, with a record id of its own."""
    members = {
        "id": "request-1",
        "method": "togetherchat.v1.ChatService/Complete",
        "received_s": 1000.0,
        "received_us": NOON_US,
        "record_id": f"test-{next(_numbers)}",
        "deadline_s": 2000.0,
        "deadline_reason": Reason.CALL_TIMEOUT,
        "upstream_key": None,
        "tenant": tenant,
    }
    return Call(**{**members, **changes})
