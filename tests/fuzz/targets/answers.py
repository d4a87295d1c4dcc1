"""Responses of a provider: any bytes become messages that can be sent, or an error with a known reason.

Input: a status, some switches, headers up to a zero byte, then the body, which is parsed in every
role that a body can have: a unary response, an event of a stream, a model list, an error.
The message of an error is one of ours, or one of ours followed by the provider's text. Neither the
error nor its causes contain the key, and gRPC can carry its status.
"""

import math
import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from google.protobuf.message import Message

from fuzz.statuses import packed_status
from fuzz.tape import Tape
from togetherchat_server.domain.reasons import TEXT_CHARACTERS_MAX, Reason, ServiceError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.providers.together import error_tables, errors, models, response, schema, stream

CANARY: Final = "kanarienvogel-0123456789"
"""The key. It has no provider's format, so that only code that knows it can mask it."""
MODEL: Final = "some/model"
STATUSES: Final = (*sorted(error_tables.STATUS), 201, 302, 418, 599)
NOW_WALL_S: Final = 1_790_000_000.0

OWN_MESSAGES: Final = frozenset(
    {
        "the provider's response is not JSON of the expected shape",
        "the provider's response has no choices",
        "the provider's stream has no choices",
        "the provider's stream ended before the completion did",
        *error_tables.MESSAGES.values(),
        error_tables.UNTRUSTED_MESSAGE,
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
    errors_found = [
        _try(lambda: _complete(body, own_key=own_key)),
        _try(lambda: _stream(body, own_key=own_key, done=bool(switches & 2))),
        _try(lambda: _models(body)),
        _error(status, headers, body, own_key=own_key),
    ]
    for error in errors_found:
        if error is not None:
            _check(error)
            assert CANARY.encode() not in packed_status(error, headers)
            if CANARY.encode() in body:  # the search takes longer than all the rest
                assert CANARY not in "".join(traceback.format_exception(error))


def _complete(body: bytes, *, own_key: bool) -> Iterable[Message]:
    completion = response.from_schema(
        schema.parse_completion(body), caller_brought_key=own_key, secrets=_secrets()
    )
    assert completion.choices
    return [completion, *response.to_events(completion)]


def _stream(body: bytes, *, own_key: bool, done: bool) -> Iterable[Message]:
    translator = stream.ChatStreamTranslator(caller_brought_key=own_key, secrets=_secrets())
    chunk = schema.parse_chunk(body)
    translator.feed(chunk)
    translator.feed(chunk)
    translator.finish(done=done, attempts=1)
    return translator.pop_events()


def _models(body: bytes) -> Iterable[Message]:
    return models.from_schema(schema.parse_models(body))


def _error(status: int, headers: Mapping[str, str], body: bytes, *, own_key: bool) -> ServiceError:
    return errors.from_response(
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


def _check(error: ServiceError) -> None:
    message = error_tables.MESSAGES.get(error.reason, "")
    quotes = error.reason in error_tables.QUOTED and error.message.startswith(f"{message}: ")
    assert error.message in OWN_MESSAGES or quotes
    assert len(error.message) <= len(message) + TEXT_CHARACTERS_MAX + 2
    assert error.message.isprintable()
    assert error.reason in error_tables.MESSAGES or error.reason in {
        Reason.UPSTREAM_MALFORMED_RESPONSE,
        Reason.UPSTREAM_TRUNCATED,
    }
    assert CANARY not in repr((error.message, error.upstream))
    delay_s = error.retry_after_s
    assert delay_s is None or (math.isfinite(delay_s) and delay_s >= 0)


def _headers(head: bytes) -> dict[str, str]:
    """Headers as an HTTP client returns them: valid names in lower case, values without line ends.

    The key is removed: headers are not masked.
    """
    lines = (line.partition(":") for line in head.decode("latin-1").replace(CANARY, "").splitlines())
    return {
        name.lower(): value.strip() for name, colon, value in lines if colon and _HEADER_NAME.fullmatch(name)
    }


def _secrets() -> tuple[Secret, ...]:
    return (Secret(CANARY),)
