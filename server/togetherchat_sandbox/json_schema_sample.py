"""Builds a small value that fits a JSON schema, for JSON mode and for the arguments of tool calls.

The same schema and literals always give the same value. The value has the required properties and those that
the literals name; where none is required, all of them. A literal of the user's words is used where it fits.
Depth and size are bounded, because schemas can refer to themselves.
"""

from collections.abc import Callable, Mapping

from togetherchat_sandbox.encoding import Json, JsonObject, as_list, as_object
from togetherchat_sandbox.literals import Literals
from togetherchat_sandbox.regex_sample import regex_sample

DEPTH_MAX = 8
VALUES_MAX = 1_000
ITEMS_MAX = 8
CHARACTERS_MAX = 4_096

FORMATS: Mapping[str, str] = {
    "date": "2026-01-31",
    "time": "12:30:00Z",
    "date-time": "2026-01-31T12:30:00Z",
    "duration": "PT5M",
    "email": "sandbox@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def json_sample(schema: JsonObject, literals: Literals | None = None) -> Json:
    """Return a value that fits `schema`, with the literals where they fit; each is used up."""
    return _SampleBuilder(schema, literals or Literals()).value(schema, name="", depth=0)


class _SampleBuilder:
    """Counts the values that it builds; past the bound every value is null."""

    def __init__(self, root: JsonObject, literals: Literals) -> None:
        self._root = root
        self._literals = literals
        self._left = VALUES_MAX
        self._builders: Mapping[str, Callable[[JsonObject, str, int], Json]] = {
            "object": self._object,
            "array": self._array,
            "string": lambda schema, name, _depth: _string(schema, name),
            "integer": lambda schema, _name, _depth: _integer(schema),
            "number": lambda schema, _name, _depth: _number(schema),
            "boolean": lambda _schema, _name, _depth: True,
            "null": lambda _schema, _name, _depth: None,
        }

    def value(self, schema: JsonObject, *, name: str, depth: int) -> Json:
        self._left -= 1
        if self._left < 0 or depth > DEPTH_MAX:
            return None
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if choices := as_list(schema.get("enum")):
            member = self._literals.member(choices, name=name)
            return choices[0] if member is None else member
        json_type = _type_of(schema)
        literal = self._literals.take(schema, name=name, json_type=json_type)
        if literal is not None:
            return literal
        build = self._builders.get(json_type)
        return build(schema, name, depth) if build else None

    def _resolved(self, schema: JsonObject) -> JsonObject:
        """Follow references and merge combined schemas, with the first of several alternatives."""
        for _ in range(DEPTH_MAX):
            reference = schema.get("$ref")
            parts = as_list(schema.get("allOf"))
            alternatives = as_list(schema.get("anyOf")) or as_list(schema.get("oneOf"))
            if isinstance(reference, str):
                parts = [self._target(reference)]
            elif alternatives:
                parts = [*parts, _first_alternative(alternatives)]
            elif not parts:
                break
            schema = {key: value for key, value in schema.items() if key not in _COMBINING}
            for part in parts:
                schema = _merged(as_object(part), schema)
        return schema

    def _target(self, reference: str) -> Json:
        if not reference.startswith("#"):
            return {}
        target: Json = self._root
        for step in reference[1:].split("/")[1:]:
            target = as_object(target).get(step.replace("~1", "/").replace("~0", "~"))
        return target

    def _object(self, schema: JsonObject, _name: str, depth: int) -> Json:
        properties = as_object(schema.get("properties"))
        required = [name for name in as_list(schema.get("required")) if isinstance(name, str)]
        named = [name for name in properties if name in self._literals.names() and name not in required]
        return {
            name: self.value(as_object(properties.get(name, {"type": "string"})), name=name, depth=depth + 1)
            for name in ([*required, *named] if required else properties)
        }

    def _array(self, schema: JsonObject, name: str, depth: int) -> Json:
        items = as_object(schema.get("items"))
        least = schema.get("minItems", 1 if items else 0)
        size = min(least, ITEMS_MAX) if isinstance(least, int) else 1
        return [self.value(items, name=name, depth=depth + 1) for _ in range(size)]


_COMBINING = frozenset({"$ref", "allOf", "anyOf", "oneOf"})


def _first_alternative(alternatives: list[Json]) -> Json:
    return next((each for each in alternatives if as_object(each).get("type") != "null"), None)


def _merged(base: JsonObject, over: JsonObject) -> JsonObject:
    merged: JsonObject = {**base, **over}
    properties: JsonObject = {**as_object(base.get("properties")), **as_object(over.get("properties"))}
    required: list[Json] = [*as_list(base.get("required")), *as_list(over.get("required"))]
    if properties:
        merged["properties"] = properties
    if required:
        merged["required"] = required
    return merged


def _type_of(schema: JsonObject) -> str:
    schema_type = schema.get("type")
    if isinstance(schema_type, list):
        schema_type = next((one for one in schema_type if one != "null"), "null")
    if isinstance(schema_type, str):
        return schema_type
    if "properties" in schema or "required" in schema:
        return "object"
    return "array" if "items" in schema else "string"


def _string(schema: JsonObject, name: str) -> str:
    text_format, pattern = schema.get("format"), schema.get("pattern")
    if isinstance(text_format, str) and text_format in FORMATS:
        return FORMATS[text_format]
    text = regex_sample(pattern) if isinstance(pattern, str) else f"sample {name}".strip()
    least, most = schema.get("minLength"), schema.get("maxLength")
    if isinstance(least, int):
        text = text.ljust(min(least, CHARACTERS_MAX), ".")
    return text[:most] if isinstance(most, int) and most >= 0 else text


def _integer(schema: JsonObject) -> int:
    step = schema.get("multipleOf")
    number = int(_number({**schema, "multipleOf": None}))
    return -(-number // step) * step if isinstance(step, int) and step > 0 else number


def _number(schema: JsonObject) -> float:
    """Return 1 where it fits, else the nearest number that fits."""
    number: float = 1
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if isinstance(low, int | float):
        number = max(number, low)
    if isinstance(above, int | float):
        number = max(number, above + 1)
    if isinstance(high, int | float):
        number = min(number, high)
    if isinstance(below, int | float):
        number = min(number, below - 1)
    return number
