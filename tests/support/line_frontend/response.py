"""Translates events and errors to lines of the protocol. Owns its table of statuses."""

import json
from collections.abc import Iterator

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.calls.incoming import Protocol
from togetherchat_server.domain.call import Call
from togetherchat_server.domain.reasons import Blame, Reason, ServiceError

STATUS = {reason: "rejected" if reason.row.blame is Blame.CALLER else "failed" for reason in Reason}
PROTOCOL = Protocol(name="lines", status_name=lambda error: STATUS[error.reason])


def lines_of(event: service.StreamCompleteResponse) -> Iterator[bytes]:
    """Return the line of an event, if it has one."""
    if event.HasField("delta") and event.delta.text:
        yield _line({"text": event.delta.text})
    if event.HasField("completed"):
        yield _line({"status": "ok", "tokens": event.completed.usage.total_tokens})


def error_line(error: ServiceError, call: Call) -> bytes:
    """Return the last line of a failed call."""
    status = {"status": STATUS[error.reason], "reason": error.reason, "message": error.message}
    return _line(status | {"id": call.id})


def _line(body: object) -> bytes:
    return json.dumps(body).encode() + b"\n"
