"""Reads a provider's description of a failure, whatever its shape.

Shapes that are observed: OpenAI's `{"error": {...}}`, also in a list (Google); a text in `error`; the
error without a wrapper (`{"object": "error", ...}` of vLLM); FastAPI's `detail`, a text or a list of
problems with their `loc`; `errors`, a list (Cloudflare) or a mapping from fields to texts (RFC 9457 as
ASP.NET writes it). Pure: takes parsed JSON, and knows no reasons and no statuses.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple, TypeAlias, cast, final

_Json: TypeAlias = object
_Object: TypeAlias = Mapping[str, _Json]

PROBLEMS_MAX: Final = 8
STATUS_MAX: Final = 2**31 - 1
_NUMBER_MAX: Final = 2**64 - 1

_MESSAGES: Final = ("message", "detail", "msg", "error_message", "error_description", "title")
_PARAMS: Final = ("param", "loc", "field", "path", "property", "pointer")
_PROBLEM_LISTS: Final = ("detail", "errors")
_SOURCES: Final = frozenset({"body", "query", "header"})
"""Where FastAPI found the field; the first part of its `loc`."""


class Problem(NamedTuple):
    """What is wrong with one field of the request. `param` is empty if the provider names none."""

    param: str
    message: str


@final
@dataclass(slots=True, kw_only=True)
class ErrorBody:
    """The provider's description of a failure. Empty texts stand for what it does not have."""

    message: str = ""
    type: str = ""
    code: str = ""
    error_type: str = ""
    param: str = ""
    status: int | None = None


def read_member(value: _Json) -> ErrorBody | None:
    """Read the member `error`: an object, a text, a list, or any other truthy value. None if it is falsy."""
    if isinstance(value, ErrorBody):
        return value
    if not value:
        return None
    if isinstance(value, str):
        return ErrorBody(message=value)
    if isinstance(value, list):
        return _from_problems(cast("list[_Json]", value))
    return _from_object(cast("_Object", value)) if isinstance(value, dict) else ErrorBody()


def read_body(value: _Json) -> ErrorBody | None:
    """Read a body that describes a failure. None if it has no JSON object."""
    body = _object_of(value)
    if body is None:
        return None
    outer = _from_object(body)
    inner = read_member(body.get("error")) or ErrorBody()
    return ErrorBody(
        message=inner.message or outer.message,
        type=inner.type or outer.type,
        code=inner.code or outer.code,
        error_type=inner.error_type or outer.error_type,
        param=inner.param or outer.param,
        status=inner.status if inner.status is not None else outer.status,
    )


def reports_failure(value: _Json) -> bool:
    """Return whether a body with status 200, and without choices, describes a failure."""
    body = _object_of(value)
    if body is None:
        return False
    if body.get("error") or body.get("object") == "error" or body.get("success") is False:
        return True
    if body.get("detail") or body.get("errors"):
        return True
    error = _from_object(body)
    is_error = bool(error.error_type or error.code) or "error" in error.type.lower()
    return bool(error.message) and (is_error or (error.status or 0) >= 400)


def _object_of(value: _Json) -> _Object | None:
    """Return the object of a body, or the first one of a list."""
    if isinstance(value, list):
        entries = cast("list[_Json]", value)
        return next((cast("_Object", entry) for entry in entries if isinstance(entry, dict)), None)
    return cast("_Object", value) if isinstance(value, dict) else None


def _from_object(fields: _Object) -> ErrorBody:
    problems = [problem for name in _PROBLEM_LISTS for problem in _problems(fields.get(name))]
    texts = (
        (_text(fields, _MESSAGES).rstrip("."), _joined(problems)) if problems else (_text(fields, _MESSAGES),)
    )
    statuses = (_status(fields.get("status")), _status(fields.get("status_code")))
    return ErrorBody(
        message=": ".join(text for text in texts if text),
        type=_code(fields.get("type")),
        code=_code(fields.get("code")),
        error_type=_code(fields.get("error_type")),
        param=_param(fields) or next((problem.param for problem in problems if problem.param), ""),
        status=next((status for status in statuses if status is not None), None),
    )


def _from_problems(values: Sequence[_Json]) -> ErrorBody:
    first = _object_of(list(values))
    problems = list(_problems(values))
    if first is None or len(problems) > 1:
        return ErrorBody(message=_joined(problems))
    return _from_object(first)


def _problems(value: _Json) -> Iterator[Problem]:
    """Return the problems in a list, or in a mapping from fields to texts."""
    if isinstance(value, list):
        found = (_problem(entry) for entry in cast("list[_Json]", value))
    elif isinstance(value, dict):
        found = _mapped(cast("_Object", value))
    else:
        return iter(())
    return islice((problem for problem in found if problem.message), PROBLEMS_MAX)


def _problem(entry: _Json) -> Problem:
    if isinstance(entry, dict):
        fields = cast("_Object", entry)
        return Problem(_param(fields), _text(fields, _MESSAGES))
    return Problem("", entry if isinstance(entry, str) else "")


def _mapped(fields: _Object) -> Iterator[Problem]:
    if _text(fields, _MESSAGES):
        yield _problem(fields)
        return
    for name, texts in fields.items():
        for text in cast("list[_Json]", texts) if isinstance(texts, list) else [texts]:
            yield Problem(name, text if isinstance(text, str) else "")


def _joined(problems: Iterable[Problem]) -> str:
    texts = (
        f"{problem.param}: {problem.message}" if problem.param else problem.message for problem in problems
    )
    return "; ".join(texts)


def _text(fields: _Object, names: Iterable[str]) -> str:
    values = (fields.get(name) for name in names)
    return next((value for value in values if isinstance(value, str) and value), "")


def _param(fields: _Object) -> str:
    paths = (_path(fields.get(name)) for name in _PARAMS)
    found = next((path for path in paths if path), "")
    source = fields.get("source")  # JSON:API
    return found or (_param(cast("_Object", source)) if isinstance(source, dict) else "")


def _path(value: _Json) -> str:
    """Return the path of a field: a text as it is, a pointer or a list of names with dots."""
    if isinstance(value, str):
        return _path(value.split("/")[1:]) if value.startswith("/") else value
    if not isinstance(value, list):
        return ""
    path = ""
    for number, part in enumerate(cast("list[_Json]", value)):
        if number == 0 and isinstance(part, str) and part in _SOURCES:
            continue
        if isinstance(part, int) or (isinstance(part, str) and part.isdecimal()):
            path += f"[{part}]"
        elif isinstance(part, str):
            path += f".{part}" if path else part
    return path


def _code(value: _Json) -> str:
    """Read a code: a text or a number."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _NUMBER_MAX:
        return str(value)
    return value if isinstance(value, str) else ""


def _status(value: _Json) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= STATUS_MAX:
        return value
    return None
