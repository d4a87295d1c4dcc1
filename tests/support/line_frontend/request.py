"""Translates a line of the protocol to a request and its metadata."""

import json
from dataclasses import dataclass

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.calls.incoming import IncomingCall
from togetherchat_server.domain.reasons import Reason, ServiceError

from .response import PROTOCOL


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The first line of a call."""

    incoming: IncomingCall
    seconds_left: float | None


def read_head(line: bytes) -> Head:
    """Read `{"key": "...", "id": "...", "timeout_s": 1.5}`."""
    head = json.loads(line)
    incoming = IncomingCall(
        protocol=PROTOCOL,
        method="lines.complete",
        request_id=head.get("id", ""),
        authorization=f"Bearer {head['key']}" if "key" in head else "",
    )
    return Head(incoming=incoming, seconds_left=head.get("timeout_s"))


def read_request(line: bytes) -> service.CompleteRequest:
    """Read `{"model": "...", "prompt": "..."}`. Raises ServiceError INVALID_REQUEST."""
    try:
        body = json.loads(line)
        message = chat.Message(role=chat.ROLE_USER, content=[chat.ContentPart(text=body["prompt"])])
        return service.CompleteRequest(model=body["model"], messages=[message])
    except (ValueError, KeyError, TypeError):
        raise ServiceError(Reason.INVALID_REQUEST, "send a JSON object with model and prompt") from None
