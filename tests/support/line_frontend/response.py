"""Translates events and errors to lines of the protocol. Owns its table of statuses."""

import json
from collections.abc import Iterator

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.calls.incoming import Protocol
from togetherchat_server.domain.call import Call, EventBatch
from togetherchat_server.domain.reasons import Reason, ServiceError

REJECTED = {
    Reason.MISSING_CREDENTIALS,
    Reason.INVALID_CREDENTIALS,
    Reason.INVALID_REQUEST,
    Reason.MODEL_NOT_FOUND,
}
STATUS = {reason: "rejected" if reason in REJECTED else "failed" for reason in Reason}
PROTOCOL = Protocol(name="lines", status_name=STATUS.__getitem__)


def lines_of(events: EventBatch) -> Iterator[bytes]:
    """Return the lines of one batch."""
    for event in events:
        if event.HasField("delta") and event.delta.text:
            yield _line({"text": event.delta.text})
        if event.HasField("completed"):
            yield _completed(event.completed)


def error_line(error: ServiceError, call: Call) -> bytes:
    """Return the last line of a failed call."""
    status = {"status": STATUS[error.reason], "reason": error.reason, "message": error.message}
    return _line(status | {"id": call.id})


def _completed(completed: service.Completed) -> bytes:
    return _line({"status": "ok", "tokens": completed.usage.total_tokens})


def _line(body: object) -> bytes:
    return json.dumps(body).encode() + b"\n"
