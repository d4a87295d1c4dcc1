"""Turns the problems of a request that `schema` found into one error, with the paths of the members."""

import re
from collections.abc import Collection, Sequence
from typing import Final, TypeAlias

from togetherchat_server.domain.reasons import FieldViolation, Reason, ServiceError, sanitise

VIOLATIONS_MAX: Final = 16
PROBLEMS_MAX: Final = 64

Location: TypeAlias = tuple[int | str, ...]
"""Where a problem is: names of members, indexes, and pydantic's names for the members of unions."""

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_UTF_16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")

_HALF_PAIR: Final = re.compile(r".*(hex escape|(low|high) surrogate in string)")
_NOT_UTF_8: Final = re.compile(r".*(invalid unicode code point|not valid UTF-8: [a-z ]*(?= at ))")
_CAUSES: Final = (
    (_HALF_PAIR, r"a \\u escape is half of a surrogate pair, which is not a character,"),
    (_NOT_UTF_8, "bytes that are not UTF-8,"),
)
"""What pydantic's and orjson's parsers report, and the cause in the caller's terms."""


def not_json(text: str, body: bytes) -> ServiceError:
    """Return the error of a body that is not JSON; `text` is the parser's, which ends with the position."""
    problem = text.removeprefix("Invalid JSON: ")
    if body.startswith(_UTF_16_MARKS):
        problem = "its byte order mark is that of UTF-16; send UTF-8"
    for pattern, cause in _CAUSES:
        problem = pattern.sub(cause, problem)
    return ServiceError(Reason.INVALID_REQUEST, f"the body is not JSON: {sanitise(problem)}")


def rejection(problems: Sequence[tuple[Location, str]], *, members: Collection[str]) -> ServiceError:
    """Return the error of a request with these problems; `members` are the names that paths may show."""
    violations = _deepest([(_path(location, members), _rule(text)) for location, text in problems])
    first = violations[0]
    text = f"{first.field}: {first.description}" if first.field else f"the body: {first.description}"
    return ServiceError(Reason.INVALID_REQUEST, text, violations=tuple(violations))


def _deepest(problems: list[tuple[str, str]]) -> list[FieldViolation]:
    """Return the violations with the deepest paths.

    Every member of a union reports errors; the member that parsed furthest is the one that was meant.
    The errors of one path are joined to one line.
    """
    rules: dict[str, str] = {}
    for path, rule in problems[:PROBLEMS_MAX]:
        rules[path] = f"{rules[path]}, or {rule}" if path in rules else rule
    deepest = [path for path in rules if not any(other != path and other.startswith(path) for other in rules)]
    return [FieldViolation(field=path, description=rules[path]) for path in deepest[:VIOLATIONS_MAX]]


def _rule(message: str) -> str:
    return message[:1].lower() + message[1:]


def _path(location: Location, members: Collection[str]) -> str:
    """Return a path such as `messages[0].content[1].text`, without pydantic's names for union members."""
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif step in members:
            path += f".{step}" if path else step
        elif path in {"logit_bias", "chat_template_kwargs"}:
            break  # the caller's own keys
    return path
