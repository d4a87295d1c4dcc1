"""What a provider answers: any bytes become messages that travel, or a failure of a known kind.

Input: a status, some switches, headers up to a zero byte, then the body, which is read in every
role that a body can have: a whole answer, an event of a stream, a list of models, an error.
A failure says one of our own sentences, or one and the provider's words after it; neither it nor
anything that caused it shows the key; and its status is one that gRPC carries.
"""

import math
import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from google.protobuf.message import Message

from fuzz.statuses import travels
from fuzz.tape import Tape
from togetherchat_server.domain.reasons import TEXT_CHARACTERS_MAX, Reason, ServiceError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.providers.together import errors, models, schema, stream
from togetherchat_server.providers.together.response import from_schema

CANARY: Final = "kanarienvogel-0123456789"
"""The key. Not in the form of any provider's, so that only knowing it can hide it."""
MODEL: Final = "some/model"
STATUSES: Final = (*sorted(errors.STATUS), 201, 302, 418, 599)
NOW_WALL_S: Final = 1_790_000_000.0

OWN_WORDS: Final = frozenset(
    {
        "the provider's answer is not the JSON it should be",
        "the provider's answer has no choice in it",
        "the provider's stream has no choice in it",
        "the provider's stream ended before the answer did",
        *errors.SENTENCES.values(),
    }
)
_HEADER_NAME = re.compile(r"[0-9a-z_.-]+")


def target(data: bytes) -> None:
    tape = Tape(data)
    status = tape.pick(STATUSES)
    switches = tape.number(255)
    head, zero, body = tape.rest().partition(b"\0")
    headers = _headers(head) if zero else {}
    if not zero:
        body = head
    own_key = bool(switches & 1)
    failed = [
        _try(lambda: _complete(body, own_key=own_key)),
        _try(lambda: _stream(body, own_key=own_key, done=bool(switches & 2))),
        _try(lambda: _models(body)),
        _error(status, headers, body, own_key=own_key),
    ]
    for error in failed:
        if error is not None:
            _failed(error)
            assert CANARY.encode() not in travels(error, headers)
            if CANARY.encode() in body:  # looking takes longer than all the rest
                assert CANARY not in "".join(traceback.format_exception(error))


def _complete(body: bytes, *, own_key: bool) -> Iterable[Message]:
    response = from_schema(schema.parse_completion(body), caller_brought_key=own_key, secrets=_secrets())
    assert response.choices
    return [response, *stream.events_from(response)]


def _stream(body: bytes, *, own_key: bool, done: bool) -> Iterable[Message]:
    translator = stream.ChatStreamTranslator(caller_brought_key=own_key, secrets=_secrets())
    chunk = schema.parse_chunk(body)
    translator.feed(chunk)
    translator.feed(chunk)
    translator.finish(done=done, attempts=1)
    return translator.take()


def _models(body: bytes) -> Iterable[Message]:
    return models.from_schema(schema.parse_models(body))


def _error(status: int, headers: Mapping[str, str], body: bytes, *, own_key: bool) -> ServiceError:
    return errors.from_answer(
        status=status,
        headers=headers,
        body=body,
        caller_brought_key=own_key,
        now_wall_s=NOW_WALL_S,
        model=MODEL,
        secrets=_secrets(),
    )


def _try(read: Callable[[], Iterable[Message]]) -> ServiceError | None:
    try:
        messages = read()
    except ServiceError as error:
        return error
    for message in messages:
        assert message == type(message).FromString(message.SerializeToString())
    return None


def _failed(error: ServiceError) -> None:
    sentence = errors.SENTENCES.get(error.reason, "")
    quoting = error.reason in errors.ABOUT_THE_REQUEST and error.message.startswith(f"{sentence}: ")
    assert error.message in OWN_WORDS or quoting
    assert len(error.message) <= len(sentence) + TEXT_CHARACTERS_MAX + 2
    assert error.message.isprintable()
    assert error.reason in errors.SENTENCES or error.reason in {
        Reason.UPSTREAM_MALFORMED_RESPONSE,
        Reason.UPSTREAM_TRUNCATED,
    }
    assert CANARY not in repr((error.message, error.upstream))
    wait_s = error.retry_after_s
    assert wait_s is None or (math.isfinite(wait_s) and wait_s >= 0)


def _headers(head: bytes) -> dict[str, str]:
    """As an HTTP client hands them over: legal names in lower case, values without line ends.

    Without the key: a provider that answered it in a header has told it to everyone.
    """
    lines = (line.partition(":") for line in head.decode("latin-1").replace(CANARY, "").splitlines())
    return {
        name.lower(): value.strip() for name, colon, value in lines if colon and _HEADER_NAME.fullmatch(name)
    }


def _secrets() -> tuple[Secret, ...]:
    return (Secret(CANARY),)
