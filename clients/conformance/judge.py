"""Reads the cases, and says where what was seen differs from what was to be seen.

Owns the language of `expect` and the facts that are read out of an answer. Pure: it starts no
actor and no server, and does not know which languages there are.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, cast

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = dict[str, Json]

CASES: Final = Path(__file__).parent / "cases.json"
FOR_ACTORS: Final = ("id", "call", "request", "deadline_ms", "cancel", "metadata", "retries")
MISSING: Final = "(missing)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One call, and what is to be seen of it."""

    id: str
    server: str
    """`service`, the real one in front of the sandbox, or `scripted`."""
    told: JsonObject
    """What an actor is told."""
    expect: JsonObject


def read_cases(text: str) -> tuple[Case, ...]:
    """The cases of a file, in its order, with what is to be repeated written out."""
    return tuple(_case(as_object(each)) for each in as_list(json.loads(text)))


def _case(raw: JsonObject) -> Case:
    return Case(
        id=str(raw["id"]),
        server=str(raw.get("server", "service")),
        told={name: _written_out(raw[name]) for name in FOR_ACTORS if name in raw},
        expect=as_object(raw["expect"]),
    )


def _written_out(value: Json) -> Json:
    match value:
        case {"$repeat": [str() as text, int() as times]}:
            return text * times
        case dict():
            return {name: _written_out(each) for name, each in value.items()}
        case list():
            return [_written_out(each) for each in value]
        case _:
            return value


def with_page_token(told: JsonObject, observations: Mapping[str, JsonObject]) -> JsonObject:
    """What an actor is told, with `{"$page_after": CASE}` replaced by the token that case came back with."""
    request = as_object(told["request"])
    match request.get("page_token"):
        case {"$page_after": str() as before}:
            page = as_object(observations.get(before, {}).get("answer"))
            return {**told, "request": {**request, "page_token": page.get("nextPageToken", "")}}
        case _:
            return told


def facts(observation: JsonObject) -> JsonObject:
    """What an actor saw, with what is read out of its answer beside it."""
    answer = as_object(observation.get("answer"))
    choices = [as_object(choice) for choice in as_list(answer.get("choices"))]
    first = choices[0] if choices else {}
    return {
        **observation,
        "text": _text(first),
        "texts": [_text(choice) for choice in choices],
        "reasoning": as_object(first.get("message")).get("reasoning", ""),
        "finish_reason": first.get("finishReason", ""),
        "finish_reasons": [choice.get("finishReason", "") for choice in choices],
        "seed": first.get("seed", ""),
        "tool_calls": [
            _tool_call(call) for call in as_list(as_object(first.get("message")).get("toolCalls"))
        ],
        "usage": as_object(answer.get("usage")),
        "models": answer.get("models", []),
        "violations": [as_list(each)[0] for each in as_list(observation.get("violations"))],
    }


def _text(choice: JsonObject) -> str:
    parts = as_list(as_object(choice.get("message")).get("content"))
    return "".join(str(as_object(part).get("text", "")) for part in parts)


def _tool_call(call: Json) -> Json:
    function = as_object(as_object(call).get("function"))
    return [function.get("name", ""), function.get("arguments", "")]


def differences(expected: Json, actual: Json, place: str = "") -> Iterator[str]:
    """Every place where `actual` is not as expected. An object may have more than is expected."""
    match expected:
        case dict() if any(name.startswith("$") for name in expected):
            for name, bound in expected.items():
                if not _holds(name, bound, actual):
                    yield f"{place}: expected {name} {_shown(bound)}, saw {_shown(actual)}"
        case dict():
            found = as_object(actual)
            for name, each in expected.items():
                yield from differences(each, found.get(name, MISSING), f"{place}.{name}" if place else name)
        case _ if _same(expected, actual):
            pass
        case _:
            yield f"{place}: expected {_shown(expected)}, saw {_shown(actual)}"


def _holds(operator: str, bound: Json, actual: Json) -> bool:
    match operator:
        case "$any_of":
            return any(_same(each, actual) for each in as_list(bound))
        case "$min":
            return is_number(actual) and float(str(actual)) >= float(str(bound))
        case "$max":
            return is_number(actual) and float(str(actual)) <= float(str(bound))
        case "$count":
            return isinstance(actual, list) and len(actual) == bound
        case "$matches":
            return isinstance(actual, str) and re.search(str(bound), actual) is not None
        case _:
            raise ValueError(f"`expect` knows no {operator}")


def _same(expected: Json, actual: Json) -> bool:
    # In Python, True is 1.
    return type(expected) is type(actual) and expected == actual


def is_number(value: Json) -> bool:
    """Whether it is one; 64-bit numbers of protobuf JSON are strings."""
    return (isinstance(value, int | float) and not isinstance(value, bool)) or (
        isinstance(value, str) and value.lstrip("-").isdecimal()
    )


def _shown(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text)} characters)"


def table(rows: Sequence[str], verdicts: Mapping[str, Mapping[str, str]]) -> str:
    """Case by language; a cell that nobody filled is a hole."""
    languages = list(verdicts)
    width = max(map(len, rows))
    head = "  ".join([" " * width, *languages])
    lines = [
        "  ".join([row.ljust(width), *(_cell(verdicts[name], row).center(len(name)) for name in languages)])
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in [head, *lines])


def _cell(verdicts: Mapping[str, str], row: str) -> str:
    return verdicts.get(row, "hole")


def as_object(value: Json) -> JsonObject:
    """It, or an empty one where it is something else."""
    return value if isinstance(value, dict) else {}


def as_list(value: Json) -> list[Json]:
    """It, or an empty one where it is something else."""
    return value if isinstance(value, list) else []


def parse_object(text: str) -> JsonObject:
    """One line of an actor. Raises ValueError where it is no JSON object."""
    value = cast("Json", json.loads(text))
    if not isinstance(value, dict):
        raise TypeError("an actor answers with JSON objects")
    return value
