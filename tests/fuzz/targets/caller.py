"""Requests of a caller: any bytes that parse as a `CompleteRequest` become JSON that every parser reads.

Input: whether a stream is requested and whether bounds are narrow, then the message. A rejected
request gets every violation with the path of its field and none of its own text. An accepted request
becomes one JSON object without a repeated key at the top, with the caller's numbers and texts
unchanged.
"""

import json
import re
from typing import Final

from google.protobuf.message import DecodeError

from fuzz.statuses import packed_status
from fuzz.tape import Tape
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.calls.validation import RequestLimits, validate
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.providers.together.request import SCALARS, to_schema

LIMITS: Final = (
    RequestLimits(),
    RequestLimits(
        max_request_bytes=512, violations_max=4, messages_max=4,
        parts_and_tool_calls_max=6, tools_max=2, stop_max=2, fallback_models_max=1, logit_bias_max=2,
        model_characters_max=24, word_characters_max=8, name_characters_max=8, id_characters_max=8, tool_call_characters_max=8,
        stop_characters_max=8, url_characters_max=32, description_characters_max=16, json_characters_max=64,
        json_containers_max=8, json_depth_max=2,
    ),
)  # fmt: skip
"""The default limits, and limits so narrow that small inputs exceed every one of them."""
CANARY: Final = "kanarienvogel-0123456789"
"""A prompt. It may be anywhere in a request, but in no rejection."""

_PATH = re.compile(r"[a-z][a-z0-9_]*(?:\[[^\[\]]*\])?(?:\.[a-z][a-z0-9_]*(?:\[[^\[\]]*\])?)*|")


def target(data: bytes) -> None:
    tape = Tape(data)
    switches = tape.number(3)
    stream, limits = bool(switches & 1), LIMITS[switches >> 1]
    try:
        request = service.CompleteRequest.FromString(tape.rest())
    except DecodeError:
        return
    try:
        validate(request, limits)
    except ServiceError as error:
        _check_rejected(error, limits)
        return
    _check_accepted(request, to_schema(request, stream=stream), stream=stream)


def _check_rejected(error: ServiceError, limits: RequestLimits) -> None:
    assert error.reason in {Reason.INVALID_REQUEST, Reason.REQUEST_TOO_LARGE}
    assert bool(error.violations) is (error.reason is Reason.INVALID_REQUEST)
    assert len(error.violations) <= limits.violations_max + 1
    assert CANARY not in repr((error.message, error.violations))
    assert CANARY.encode() not in packed_status(error, {})
    for violation in error.violations:
        assert violation.description
        assert _PATH.fullmatch(violation.field)


def _check_accepted(request: service.CompleteRequest, body: bytes, *, stream: bool) -> None:
    sent = json.loads(body, object_pairs_hook=list, parse_constant=_reject_constant, parse_int=str)
    names = [name for name, _ in sent]
    assert len(names) == len(set(names))
    fields = dict(sent)
    assert request.model == fields["model"]
    assert len(request.messages) == len(fields["messages"])
    assert stream is fields.get("stream", False)
    for name in SCALARS:
        assert request.HasField(name) is (name in names)
        if request.HasField(name):
            given = getattr(request, name)
            assert type(given)(fields[name]) == given
    for given, received in zip(request.messages, fields["messages"], strict=True):
        _check_text(given, dict(received))


def _check_text(given: object, received: dict[str, object]) -> None:
    parts = list(given.content)
    if len(parts) == 1 and parts[0].WhichOneof("part") == "text":
        assert parts[0].text == received["content"]
    elif parts:
        assert len(parts) == len(received["content"])


def _reject_constant(text: str) -> float:
    raise AssertionError(f"{text} is not JSON")
