"""What a caller sends: any bytes that pass as a `CompleteRequest` become JSON that every parser reads.

Input: whether a stream is asked for and whether bounds are narrow, then the message. Refused, a request is told every violation
with the path of its field and nothing of its own text. Accepted, its body is one JSON object, no
key twice at the top, with the caller's numbers and texts unchanged.
"""

import json
import re
from typing import Final

from google.protobuf.message import DecodeError

from fuzz.statuses import travels
from fuzz.tape import Tape
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.calls.validation import RequestLimits, validate
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.providers.together.request import SCALARS, to_schema

LIMITS: Final = (
    RequestLimits(),
    RequestLimits(
        max_request_bytes=512, violations_max=4, messages_max=4, parts_per_message_max=3,
        tool_calls_per_message_max=2, parts_and_tool_calls_max=6, tools_max=2, stop_max=2, fallback_models_max=1, logit_bias_max=2,
        model_characters_max=24, word_characters_max=8, name_characters_max=8, id_characters_max=8,
        stop_characters_max=8, url_characters_max=32, description_characters_max=16, json_characters_max=64,
        json_containers_max=8, json_depth_max=2,
    ),
)  # fmt: skip
"""As they are, and so narrow that small inputs meet every one of them."""
CANARY: Final = "kanarienvogel-0123456789"
"""A prompt. It may stand anywhere in a request and in no refusal."""

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
        _refused(error, limits)
        return
    _accepted(request, to_schema(request, stream=stream), stream=stream)


def _refused(error: ServiceError, limits: RequestLimits) -> None:
    assert error.reason in {Reason.INVALID_REQUEST, Reason.REQUEST_TOO_LARGE}
    assert bool(error.violations) is (error.reason is Reason.INVALID_REQUEST)
    assert len(error.violations) <= limits.violations_max + 1
    assert CANARY not in repr((error.message, error.violations))
    assert CANARY.encode() not in travels(error, {})
    for violation in error.violations:
        assert violation.description
        assert _PATH.fullmatch(violation.field)


def _accepted(request: service.CompleteRequest, body: bytes, *, stream: bool) -> None:
    sent = json.loads(body, object_pairs_hook=list, parse_constant=_no_json, parse_int=str)
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
    for given, told in zip(request.messages, fields["messages"], strict=True):
        _same_text(given, dict(told))


def _same_text(given: object, told: dict[str, object]) -> None:
    parts = list(given.content)
    if len(parts) == 1 and parts[0].WhichOneof("part") == "text":
        assert parts[0].text == told["content"]
    elif parts:
        assert len(parts) == len(told["content"])


def _no_json(word: str) -> float:
    raise AssertionError(f"{word} is no JSON")
