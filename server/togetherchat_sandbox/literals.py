"""Finds the literals in a user's words, and gives them to the fields of a JSON schema.

A field gets the literal that is named after it (`city: Paris`, `age=3`, `name is "Ada"`), else the first
literal of its type that no other field has: a number, a text in quotes, `true` or `false`. An enum gets the
member that the words contain. Pure; the amount of text and the number of literals are bounded.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from togetherchat_sandbox.encoding import Json, JsonObject, as_list, as_object

TEXT_CHARACTERS_MAX = 16_384
LITERALS_MAX = 64
NAMES_MAX = 256
NODES_MAX = 1_000

# Fifteen digits fit a float exactly and an integer of 64 bits.
_NUMBER = r"-?\d{1,15}(?:\.\d{1,15})?"
_QUOTED = r"\"([^\"\n]*)\"|(?<!\w)'([^'\n]*)'(?!\w)|“([^”\n]*)”"
_LITERAL = re.compile(rf"{_QUOTED}|(?<![\w.-])({_NUMBER}|true|false)(?![\w-]|\.\d)", re.IGNORECASE)
_VALUE = rf"(?:{_QUOTED}|({_NUMBER}|true|false)(?![\w-]|\.\d))"
_WORD = r"[\w@.+/-]*\w"


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal:
    """A literal of the text. A text in quotes is a string; a named one is whatever its field is."""

    text: str
    quoted: bool
    named: bool = False

    def value(self, json_type: str) -> Json:
        """Return the literal as a value of a JSON type, or None if it is not one."""
        if json_type == "string":
            return self.text if self.quoted or self.named else None
        if self.quoted:
            return None
        match json_type:
            case "boolean":
                return {"true": True, "false": False}.get(self.text.lower())
            case "integer":
                return int(self.text) if re.fullmatch(r"-?\d{1,15}", self.text) else None
            case "number" if re.fullmatch(_NUMBER, self.text):
                return float(self.text) if "." in self.text else int(self.text)
            case _:
                return None


class Literals:
    """The literals of a text. Each is used once."""

    def __init__(self, text: str = "", *, names: Iterable[str] = (), ignored: Iterable[str] = ()) -> None:
        """Find the literals of `text`. `names` are the fields; texts that are `ignored` are not literals."""
        self._text = text[:TEXT_CHARACTERS_MAX]
        names = list(names)[:NAMES_MAX]
        found = dict(_named_literals(self._text, names))
        self._named = {name: literal for name, (literal, _) in found.items()}
        rest = _without(self._text, [span for _, span in found.values()])
        excluded = {*ignored, *names}
        self._unused = [literal for literal in _literals(rest) if literal.text not in excluded][:LITERALS_MAX]

    def names(self) -> frozenset[str]:
        """Return the fields that the text names with a value."""
        return frozenset(self._named)

    def take(self, schema: JsonObject, *, name: str, json_type: str) -> Json:
        """Return the value for a field and use it up, or None if there is none."""
        named = self._named.get(name)
        value = named.value(json_type) if named else None
        if value is not None and _is_allowed(value, schema):
            return value
        for position, literal in enumerate(self._unused):
            value = literal.value(json_type)
            if value is not None and _is_allowed(value, schema):
                del self._unused[position]
                return value
        return None

    def member(self, members: list[Json], *, name: str) -> Json:
        """Return the member of an enum that the text contains first, or None."""
        texts = [member for member in members if isinstance(member, str)][:NAMES_MAX]
        named = self._named.get(name)
        for text in texts:
            if named and text.lower() == named.text.lower():
                return text
        found = {text: _position(self._text, text) for text in texts}
        positions = {text: position for text, position in found.items() if position >= 0}
        return min(positions, key=positions.__getitem__) if positions else None


def scalar_names(schema: Json) -> list[str]:
    """Return the names of the properties in a schema that a literal can fill, those of nested objects too."""
    names: dict[str, None] = {}
    nodes: list[Json] = [schema]
    for node in nodes:  # grows as it is read
        if isinstance(node, dict):
            properties = as_object(node.get("properties"))
            names |= dict.fromkeys(name for name, each in properties.items() if _is_scalar(each))
        inner = node.values() if isinstance(node, dict) else as_list(node)
        nodes += islice(inner, NODES_MAX - len(nodes))
    return list(islice(names, NAMES_MAX))


def _is_scalar(schema: Json) -> bool:
    """Return whether a property is a scalar or a list of them: its schema does not show an object."""
    schema = as_object(schema)
    schema = as_object(schema.get("items")) or schema
    return schema.get("type") != "object" and not schema.keys() & {"$ref", "allOf", "properties"}


def _without(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """Return the text with spaces in the place of some parts."""
    for start, end in spans:
        text = text[:start] + " " * (end - start) + text[end:]
    return text


def _literals(text: str) -> Iterator[Literal]:
    for match in _LITERAL.finditer(text):
        *quoted, bare = match.groups()
        inside = next((group for group in quoted if group is not None), None)
        if inside is not None:
            yield Literal(text=inside, quoted=True)
        else:
            yield Literal(text=bare, quoted=False)


def _named_literals(text: str, names: Iterable[str]) -> Iterator[tuple[str, tuple[Literal, tuple[int, int]]]]:
    for name in names:
        words = "[ _-]?".join(re.escape(word) for word in re.split(r"[ _-]", name) if word)
        after = rf"(?:[\"'`]?\s{{0,4}}[=:]\s{{0,4}}(?:{_VALUE}|({_WORD}))|\s(?:is\s|of\s)?{_VALUE})"
        match = re.search(rf"(?<!\w){words}{after}", text, re.IGNORECASE) if words else None
        if match is None:
            continue
        *quoted, bare, word, quoted_1, quoted_2, quoted_3, bare_2 = match.groups()
        inside = next((each for each in (*quoted, quoted_1, quoted_2, quoted_3) if each is not None), None)
        plain = bare or word or bare_2 or ""
        literal = Literal(text=plain if inside is None else inside, quoted=inside is not None, named=True)
        yield name, (literal, match.span())


def _is_allowed(value: Json, schema: JsonObject) -> bool:
    if isinstance(value, str):
        return _is_allowed_text(value, schema)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    step = schema.get("multipleOf")
    return not (
        (isinstance(low, int | float) and value < low)
        or (isinstance(above, int | float) and value <= above)
        or (isinstance(high, int | float) and value > high)
        or (isinstance(below, int | float) and value >= below)
        or (isinstance(step, int | float) and step > 0 and value % step != 0)
    )


def _is_allowed_text(text: str, schema: JsonObject) -> bool:
    """Return whether a text fits. A pattern is never run, so that none can hang the sandbox."""
    least, most = schema.get("minLength"), schema.get("maxLength")
    return not (
        isinstance(schema.get("pattern"), str)
        or isinstance(schema.get("format"), str)
        or (isinstance(least, int) and len(text) < least)
        or (isinstance(most, int) and len(text) > most)
    )


def _position(text: str, member: str) -> int:
    match = re.search(rf"(?<!\w){re.escape(member)}(?!\w)", text, re.IGNORECASE) if member else None
    return match.start() if match else -1
