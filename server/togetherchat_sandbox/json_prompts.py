"""Finds the JSON that a prompt describes in words, for requests without a schema in `response_format`.

A prompt describes it by a JSON schema (the last one counts), by the keys in backticks or quotes, or by an
example. Libraries write such prompts for models without structured outputs: instructor, LangChain,
pydantic-ai, dspy, the AI SDK. Pure; the amount of text is bounded.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from togetherchat_sandbox.encoding import Json, JsonObject, as_object, decode

TEXT_CHARACTERS_MAX = 65_536
OBJECTS_MAX = 64
KEYS_MAX = 64
DEPTH_MAX = 8

_REQUEST = re.compile(
    r"\b(?:return|respond|reply|answer|output|produce|provide|give|format|result|generate|write)\w{0,4}\b"
    r"[^.!?\n]{0,120}\bjson",
    re.IGNORECASE,
)
_KEYS = re.compile(r"\b(?:keys?|fields?|propert(?:y|ies))\b", re.IGNORECASE)
_TYPE_HINT = r"(?: ?\(([^()\n]{0,200})\))?"
_KEY_STYLES = (
    re.compile(rf"(?<!`)`(\w{{1,64}})`(?!`){_TYPE_HINT}"),
    re.compile(rf"(?<!\w)'(\w{{1,64}})'(?!\w){_TYPE_HINT}"),
    re.compile(rf"\"(\w{{1,64}})\"{_TYPE_HINT}"),
)
_SENTENCE = re.compile(r"[.!?;]\s|\n")
_FENCE = re.compile(r"```json[ \t]*\S|\bcode ?block|\bfenced\b", re.IGNORECASE)
_NEGATION = re.compile(r"\b(?:not|without|no|never|readability)\b|n['\u2019]t\b", re.IGNORECASE)
_TYPE_WORDS = {
    "int": "integer", "integer": "integer", "float": "number", "number": "number", "bool": "boolean",
    "boolean": "boolean", "list": "array", "array": "array", "dict": "object", "object": "object",
}  # fmt: skip
_SCALAR_TYPES: dict[type, str] = {bool: "boolean", int: "integer", float: "number"}
_WRAPPERS = ("schema", "json_schema", "parameters")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonPrompt:
    """The JSON that a prompt describes, as a schema. `fenced`: it is to be in a Markdown block."""

    schema: JsonObject
    fenced: bool


def find_json_prompt(texts: Iterable[str]) -> JsonPrompt | None:
    """Return the JSON that the texts ask for: the first schema, else the first keys or the first example."""
    bounded = [text[:TEXT_CHARACTERS_MAX] for text in texts]
    fenced = any(_asks_for_fence(text) for text in bounded)
    for find in (_schema_in, _keys_in, _example_in):
        for text in bounded:
            if _REQUEST.search(text) and (schema := find(text)):
                return JsonPrompt(schema=schema, fenced=fenced)
    return None


def without_json(text: str) -> str:
    """Return the text without the objects in it: the words of the user, without a schema or an example."""
    bounded, kept, at = text[:TEXT_CHARACTERS_MAX], "", 0
    for start, end, _ in _objects(bounded):
        kept += bounded[at:start]
        at = end
    return kept + bounded[at:]


def _schema_in(text: str) -> JsonObject | None:
    schemas = [schema for _, _, found in _objects(text) if (schema := _unwrapped(found))]
    return schemas[-1] if schemas else None


def _unwrapped(found: JsonObject, depth: int = 0) -> JsonObject | None:
    """Return the schema that an object is or wraps, as in `{"name": ..., "schema": {...}}`."""
    if as_object(found.get("properties")) or (found.get("type") in {"object", "array"} and "items" in found):
        return found
    if isinstance(found.get("$ref"), str) and as_object(found.get("$defs")):
        return found
    inner = (as_object(found.get(wrapper)) for wrapper in _WRAPPERS if depth < DEPTH_MAX)
    return next((schema for each in inner if each and (schema := _unwrapped(each, depth + 1))), None)


def _keys_in(text: str) -> JsonObject | None:
    if not _KEYS.search(text):
        return None
    words = without_json(text)
    for style in _KEY_STYLES:
        matches = islice(style.finditer(words), KEYS_MAX)
        keys: JsonObject = {match[1]: {"type": _type_in(match[2] or "")} for match in matches}
        if keys:
            return {"type": "object", "properties": keys, "required": [*keys]}
    return None


def _type_in(hint: str) -> str:
    """Return the type that a hint beside a key names, such as `(int)`; a string without one."""
    words = re.findall(r"[a-z]+", hint.lower())
    return next((_TYPE_WORDS[word] for word in words if word in _TYPE_WORDS), "string")


def _example_in(text: str) -> JsonObject | None:
    examples = [found for _, _, found in _objects(text) if found]
    return _schema_of(examples[-1]) if examples else None


def _schema_of(example: Json, depth: int = 0) -> JsonObject:
    match example:
        case dict() | list() if depth > DEPTH_MAX:
            return {}
        case dict():
            properties: JsonObject = {name: _schema_of(each, depth + 1) for name, each in example.items()}
            return {"type": "object", "properties": properties, "required": [*properties]}
        case list():
            items = [_schema_of(each, depth + 1) for each in example[:1]]
            return {"type": "array", "items": items[0]} if items else {"type": "array"}
        case _:
            return {"type": _SCALAR_TYPES.get(type(example), "string")}


def _objects(text: str) -> Iterator[tuple[int, int, JsonObject]]:
    """Yield the outermost JSON objects in a text, each with where it starts and ends."""
    at = 0
    for _ in range(OBJECTS_MAX):
        start = text.find("{", at)
        if start < 0:
            return
        at = start + 1
        try:
            _, end = _DECODER.raw_decode(text, start)
            found = decode(text[start:end].encode())
        except (ValueError, RecursionError):
            continue
        yield start, end, as_object(found)
        at = end


def _asks_for_fence(text: str) -> bool:
    return any(_FENCE.search(part) and not _NEGATION.search(part) for part in _SENTENCE.split(text))
