"""A small value that fits a JSON schema: for JSON mode and for the arguments of tool calls.

Always the same value for the same schema. What is required is there; where nothing is required,
every property is. Depth and size are bounded, because schemas refer to themselves.
"""

from collections.abc import Callable, Mapping

from togetherchat_sandbox.patterns import literal
from togetherchat_sandbox.wire import Json, JsonObject, as_list, as_object

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


def instance(schema: JsonObject) -> Json:
    """A value that fits `schema`."""
    return _Builder(schema).value(schema, name="", depth=0)


class _Builder:
    """Counts the values it makes; past the bound everything is null."""

    def __init__(self, root: JsonObject) -> None:
        self._root = root
        self._left = VALUES_MAX
        self._makers: Mapping[str, Callable[[JsonObject, str, int], Json]] = {
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
            return choices[0]
        maker = self._makers.get(_type(schema))
        return maker(schema, name, depth) if maker else None

    def _resolved(self, schema: JsonObject) -> JsonObject:
        """Follow references and merge what is combined, the first way where there are several."""
        for _ in range(DEPTH_MAX):
            reference = schema.get("$ref")
            parts = as_list(schema.get("allOf"))
            ways = as_list(schema.get("anyOf")) or as_list(schema.get("oneOf"))
            if isinstance(reference, str):
                parts = [self._referred(reference)]
            elif ways:
                parts = [*parts, _first_way(ways)]
            elif not parts:
                break
            schema = {key: value for key, value in schema.items() if key not in _COMBINING}
            for part in parts:
                schema = _merged(as_object(part), schema)
        return schema

    def _referred(self, reference: str) -> Json:
        if not reference.startswith("#"):
            return {}
        found: Json = self._root
        for step in reference[1:].split("/")[1:]:
            found = as_object(found).get(step.replace("~1", "/").replace("~0", "~"))
        return found

    def _object(self, schema: JsonObject, _name: str, depth: int) -> Json:
        properties = as_object(schema.get("properties"))
        required = [name for name in as_list(schema.get("required")) if isinstance(name, str)]
        return {
            name: self.value(as_object(properties.get(name, {"type": "string"})), name=name, depth=depth + 1)
            for name in (required or properties)
        }

    def _array(self, schema: JsonObject, name: str, depth: int) -> Json:
        items = as_object(schema.get("items"))
        least = schema.get("minItems", 1 if items else 0)
        size = min(least, ITEMS_MAX) if isinstance(least, int) else 1
        return [self.value(items, name=name, depth=depth + 1) for _ in range(size)]


_COMBINING = frozenset({"$ref", "allOf", "anyOf", "oneOf"})


def _first_way(ways: list[Json]) -> Json:
    return next((way for way in ways if as_object(way).get("type") != "null"), None)


def _merged(base: JsonObject, over: JsonObject) -> JsonObject:
    merged: JsonObject = {**base, **over}
    properties: JsonObject = {**as_object(base.get("properties")), **as_object(over.get("properties"))}
    required: list[Json] = [*as_list(base.get("required")), *as_list(over.get("required"))]
    if properties:
        merged["properties"] = properties
    if required:
        merged["required"] = required
    return merged


def _type(schema: JsonObject) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if isinstance(kind, str):
        return kind
    if "properties" in schema or "required" in schema:
        return "object"
    return "array" if "items" in schema else "string"


def _string(schema: JsonObject, name: str) -> str:
    kind, pattern = schema.get("format"), schema.get("pattern")
    if isinstance(kind, str) and kind in FORMATS:
        return FORMATS[kind]
    text = literal(pattern) if isinstance(pattern, str) else f"sample {name}".strip()
    least, most = schema.get("minLength"), schema.get("maxLength")
    if isinstance(least, int):
        text = text.ljust(min(least, CHARACTERS_MAX), ".")
    return text[:most] if isinstance(most, int) and most >= 0 else text


def _integer(schema: JsonObject) -> int:
    step = schema.get("multipleOf")
    number = int(_number({**schema, "multipleOf": None}))
    return -(-number // step) * step if isinstance(step, int) and step > 0 else number


def _number(schema: JsonObject) -> float:
    """1 where it fits, else the nearest number that does."""
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
