"""Base of the tables in files that operators write, with error messages of one line.

A message names the member and its rule. It never repeats a value, which may be a secret.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import ClassVar, Final, TypeVar, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

STRICT: Final = ConfigDict(strict=True, extra="forbid", frozen=True)
NAME_CHARACTERS_MAX: Final = 64
"""Longer names are not repeated in messages: a key of this service has 67 characters."""

_RULES_BY_TYPE: Final = {
    "missing": "is missing",
    "dict_type": "must be a table",
    "list_type": "must be a list",
}
_SIMPLE_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_PYDANTIC_SUBJECT: Final = re.compile(r"^(Value error, |\w+ should )")


class FileTable(BaseModel):
    """A table of a file. Every member is declared, and no value is converted to another type."""

    model_config: ClassVar[ConfigDict] = STRICT

    @model_validator(mode="before")
    @classmethod
    def _check_members(cls, table: object) -> object:
        if not isinstance(table, Mapping):
            raise ValueError("must be a table")  # noqa: TRY004  pydantic reports a ValueError
        reject_unknown(cast("Mapping[str, object]", table), known=cls.model_fields)
        return cast("object", table)


Table = TypeVar("Table", bound=FileTable)


def rule(text: str) -> WrapValidator:
    """Replace every message about a member with one that states its rule."""

    def check(value: object, validate: ValidatorFunctionWrapHandler) -> object:
        try:
            return validate(value)
        except ValidationError:
            raise ValueError(text) from None

    return WrapValidator(check)


def reject_unknown(table: Mapping[str, object], *, known: Iterable[str]) -> None:
    """Raise ValueError for the first member that is not known."""
    names = tuple(known)
    unknown = [name for name in table if name not in names]
    if unknown:
        raise ValueError(f"unknown member {_quoted(unknown[0])}; known members: {', '.join(names)}")


def parse_toml(text: bytes, table: type[Table]) -> Table:
    """Parse a TOML document whose top level is `table`.

    Raises:
        ValueError: the text is not TOML in UTF-8, or a member is invalid.
    """
    try:
        document = tomllib.loads(text.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ValueError(f"not TOML in UTF-8: {exc}") from None
    try:
        return table.model_validate(document)
    except ValidationError as exc:
        raise ValueError(first_problem(exc)) from None


def first_problem(exc: ValidationError) -> str:
    """Return the first problem in one line: the path of the member, and the rule."""
    problem = exc.errors(include_url=False, include_context=False, include_input=False)[0]
    path = _path(problem["loc"])
    message = _RULES_BY_TYPE.get(problem["type"]) or _PYDANTIC_SUBJECT.sub(
        lambda found: "" if found[0].startswith("Value error") else "must ", problem["msg"]
    )
    return f"{path}: {message}" if path else message


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part != "[key]":  # pydantic's mark of an invalid key, after the key itself
            name = part if _is_simple(part) else _quoted(part)
            path += f".{name}" if path else name
    return path


def _is_simple(name: str) -> bool:
    return len(name) <= NAME_CHARACTERS_MAX and _SIMPLE_NAME.fullmatch(name) is not None


def _quoted(name: str) -> str:
    return repr(name) if len(name) <= NAME_CHARACTERS_MAX else f"(a name of {len(name)} characters)"
