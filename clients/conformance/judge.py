"""Reads the cases, and lists the differences between an observation and what a case expects.

Owns the syntax of `expect` and the values that are extracted from a response. Pure: starts no actor
and no server, and does not know the languages.
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
ARGUMENTS: Final = Path(__file__).parent / "arguments.json"
ACTOR_FIELDS: Final = ("id", "call", "request", "deadline_ms", "cancel", "metadata", "retries")
REJECTED: Final = "REJECTED"
"""The code of an observation whose argument was rejected before anything was sent."""
MISSING: Final = "(missing)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One call, and the expected observation."""

    id: str
    server: str
    """`service` (the real service with the sandbox), `scripted`, `proxy` or `refused`."""
    actor_input: JsonObject
    """The part of the case that is sent to an actor."""
    expect: JsonObject


def read_cases(text: str) -> tuple[Case, ...]:
    """The cases of a file, in its order, with every `$repeat` expanded."""
    return tuple(_case(as_object(each)) for each in as_list(json.loads(text)))


def _case(raw: JsonObject) -> Case:
    return Case(
        id=str(raw["id"]),
        server=str(raw.get("server", "service")),
        actor_input={name: _expanded(raw[name]) for name in ACTOR_FIELDS if name in raw},
        expect=as_object(raw["expect"]),
    )


def read_argument_cases(text: str, language: str) -> tuple[Case, ...]:
    """The cases of `arguments.json` for one language, with the messages in that language's names."""
    listed = as_object(json.loads(text))
    return tuple(
        _argument_case(listed, each, language)
        for each in (*_form_cases(listed), *map(as_object, as_list(listed["cases"])))
        if language in as_list(each.get("languages", [language]))
    )


def _form_cases(listed: JsonObject) -> Iterator[JsonObject]:
    """A case for each supported form of a target: its example is accepted."""
    for form in map(as_object, as_list(listed["target_forms"])):
        yield {
            "id": f"accepts {form['form']}",
            "arguments": {"target": form["example"]},
            "languages": form["languages"],
        }


def _argument_case(listed: JsonObject, raw: JsonObject, language: str) -> Case:
    case_id = f"argument {raw['id']}"
    expect: JsonObject = {"code": "OK", "message": ""}
    if "message" in raw:
        expect = {"code": REJECTED, "message": _message(listed, raw, language)}
    return Case(
        id=case_id,
        server="service",
        actor_input={"id": case_id, "call": "Arguments", "arguments": _expanded(raw["arguments"])},
        expect=expect,
    )


def _message(listed: JsonObject, raw: JsonObject, language: str) -> str:
    names = {name: as_object(words).get(language, "") for name, words in as_object(listed["names"]).items()}
    message = str(as_object(listed["messages"])[str(raw["message"])])
    placeholders = {
        "tls": names["tls"],
        "argument": names.get(str(raw.get("argument", "")), ""),
        **as_object(raw.get("placeholders")),
    }
    for name, value in placeholders.items():
        message = message.replace(f"{{{name}}}", str(value))
    return f"{as_object(listed['prefixes'])[language]}{message}"


def _expanded(value: Json) -> Json:
    match value:
        case {"$repeat": [str() as text, int() as times]}:
            return text * times
        case dict():
            return {name: _expanded(each) for name, each in value.items()}
        case list():
            return [_expanded(each) for each in value]
        case _:
            return value


def with_page_token(actor_input: JsonObject, observations: Mapping[str, JsonObject]) -> JsonObject:
    """`actor_input` with `{"$page_after": CASE}` replaced by the next page token that CASE received."""
    request = as_object(actor_input.get("request"))
    match request.get("page_token"):
        case {"$page_after": str() as earlier}:
            page = as_object(observations.get(earlier, {}).get("response"))
            return {**actor_input, "request": {**request, "page_token": page.get("nextPageToken", "")}}
        case _:
            return actor_input


def facts(observation: JsonObject) -> JsonObject:
    """An observation, with the values that are extracted from its response."""
    response = as_object(observation.get("response"))
    choices = [as_object(choice) for choice in as_list(response.get("choices"))]
    first = choices[0] if choices else {}
    return {
        **observation,
        "text": _text(first),
        "texts": [_text(choice) for choice in choices],
        "reasoning": as_object(first.get("message")).get("reasoning", ""),
        "reasoning_field": as_object(first.get("message")).get("reasoningField", ""),
        "finish_reason": first.get("finishReason", ""),
        "finish_reasons": [choice.get("finishReason", "") for choice in choices],
        "seed": first.get("seed", ""),
        "tool_calls": [
            _tool_call(call) for call in as_list(as_object(first.get("message")).get("toolCalls"))
        ],
        "usage": as_object(response.get("usage")),
        "timings": as_object(response.get("timings")),
        "models": [as_object(model).get("id", "") for model in as_list(response.get("models"))],
        "violations": [as_list(each)[0] for each in as_list(observation.get("violations"))],
    }


def _text(choice: JsonObject) -> str:
    parts = as_list(as_object(choice.get("message")).get("content"))
    return "".join(str(as_object(part).get("text", "")) for part in parts)


def _tool_call(call: Json) -> Json:
    function = as_object(as_object(call).get("function"))
    return [function.get("name", ""), function.get("arguments", "")]


def differences(expected: Json, actual: Json, path: str = "") -> Iterator[str]:
    """Every path at which `actual` is not as expected. An object may have further members."""
    match expected:
        case dict() if any(name.startswith("$") for name in expected):
            for name, bound in expected.items():
                if not _holds(name, bound, actual):
                    yield f"{path}: expected {name} {_shown(bound)}, observed {_shown(actual)}"
        case dict():
            found = as_object(actual)
            for name, each in expected.items():
                yield from differences(each, found.get(name, MISSING), f"{path}.{name}" if path else name)
        case _ if _same(expected, actual):
            pass
        case _:
            yield f"{path}: expected {_shown(expected)}, observed {_shown(actual)}"


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
            raise ValueError(f"{operator} is not an operator of `expect`")


def _same(expected: Json, actual: Json) -> bool:
    # In Python, True == 1.
    return type(expected) is type(actual) and expected == actual


def is_number(value: Json) -> bool:
    """Whether `value` is a number. 64-bit numbers of protobuf JSON are strings."""
    return (isinstance(value, int | float) and not isinstance(value, bool)) or (
        isinstance(value, str) and value.lstrip("-").isdecimal()
    )


def _shown(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text)} characters)"


def table(rows: Sequence[str], verdicts: Mapping[str, Mapping[str, str]]) -> str:
    """The results by case and language. A case without a result is shown as `missing`."""
    languages = list(verdicts)
    width = max(map(len, rows))
    head = "  ".join([" " * width, *languages])
    lines = [
        "  ".join([row.ljust(width), *(_cell(verdicts[name], row).center(len(name)) for name in languages)])
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in [head, *lines])


def _cell(verdicts: Mapping[str, str], row: str) -> str:
    return verdicts.get(row, "missing")


def as_object(value: Json) -> JsonObject:
    """`value`, or an empty object if it is not an object."""
    return value if isinstance(value, dict) else {}


def as_list(value: Json) -> list[Json]:
    """`value`, or an empty list if it is not a list."""
    return value if isinstance(value, list) else []


def parse_object(text: str) -> JsonObject:
    """Parse one line of an actor. Raises ValueError or TypeError unless it is a JSON object."""
    value = cast("Json", json.loads(text))
    if not isinstance(value, dict):
        raise TypeError("an actor must write JSON objects")
    return value
