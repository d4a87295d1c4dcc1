"""Literals in the user's words, given to the fields of a schema."""

import pytest

from togetherchat_sandbox.json_schema_sample import json_sample
from togetherchat_sandbox.literals import LITERALS_MAX, NAMES_MAX, Literals, scalar_names

STRING, INTEGER, NUMBER, BOOLEAN = (
    {"type": json_type} for json_type in ("string", "integer", "number", "boolean")
)


def filled(text, properties, *, required=None, ignored=()):
    schema = {"type": "object", "properties": properties, "required": required or [*properties]}
    return json_sample(schema, Literals(text, names=scalar_names(schema), ignored=ignored))


@pytest.mark.parametrize(
    ("expected", "text", "schema"),
    [
        (3, "the value of f(3)", INTEGER),
        (-3, "it was -3 degrees", INTEGER),
        (25, "Jason is 25 years old.", INTEGER),
        (2.5, "take 2.5 of it", NUMBER),
        (2, "take 2 of it", NUMBER),
        (True, "turn it on: true", BOOLEAN),
        (False, "False, please", BOOLEAN),
        ("你好", "a customer called '你好'", STRING),
        ("a b", 'the text "a b" of it', STRING),
        ("a b", "the text “a b” of it", STRING),
        ("it's", 'the text "it\'s" of it', STRING),
    ],
)
def test_a_field_gets_the_literal_of_its_type(expected, text, schema):
    """Numbers, booleans and texts in quotes are taken by type."""
    assert {"field": expected} == filled(text, {"field": schema})


@pytest.mark.parametrize(
    ("text", "schema"),
    [
        ("nothing here", INTEGER),
        ("only 2.5", INTEGER),
        ("on 2026-01-31", INTEGER),
        ("version v3 and 4th and 1.2.3", INTEGER),
        ("the text '3'", INTEGER),
        ("don't and won't", STRING),
        ("the number 3", STRING),
        ("the number 3", {"type": "integer", "minimum": 5}),
        ("the number 3", {"type": "integer", "exclusiveMaximum": 3}),
        ("the number 3", {"type": "integer", "multipleOf": 2}),
        ("the text 'abc'", {"type": "string", "maxLength": 2}),
        ("the text 'abc'", {"type": "string", "pattern": "x"}),
        ("the text 'abc'", {"type": "string", "format": "email"}),
        ("the number 1234567890123456789012345", INTEGER),
    ],
)
def test_what_does_not_fit_is_not_taken(text, schema):
    """A literal of another type, a part of a word or a date, and what the schema forbids are left."""
    assert filled("", {"field": schema}) == filled(text, {"field": schema})


def test_literals_are_taken_in_order_and_once():
    """Each field gets the next literal of its type; the others get a sample."""
    fields = {"a": INTEGER, "name": STRING, "b": INTEGER, "c": INTEGER}
    assert {"a": 1, "name": "x", "b": 2, "c": 1} == filled("'x' with 1 and 2", fields)


@pytest.mark.parametrize(
    "text",
    [
        "b=2 and a=1",
        "b: 2, a: 1",
        '{"b": 2, "a": 1}',
        "`b`: 2, `a`: 1",
        "b is 2 and a is 1",
        "b 2, a 1",
        "B = 2, 1",
    ],
)
def test_a_named_literal_has_precedence(text):
    """A field gets the literal that is named after it, wherever that is."""
    assert {"a": 1, "b": 2} == filled(text, {"a": INTEGER, "b": INTEGER})


def test_a_named_text_needs_no_quotes():
    """After `=` or `:` a word is a text; spaces and underscores in a name are the same."""
    fields = {"first_name": STRING, "zip": STRING}
    assert {"first_name": "Ada", "zip": "10115"} == filled("zip=10115, first name: Ada", fields)


def test_a_named_optional_field_is_included():
    """A field that is not required is included if the words name it."""
    fields = {"city": STRING, "days": INTEGER, "unit": STRING}
    assert {"city": "Rome", "days": 3} == filled("city: Rome, days: 3", fields, required=["city"])


def test_an_enum_gets_the_member_that_is_mentioned():
    """The first member in the text is taken, whatever its case; else the first of the schema."""
    fields = {"style": {"enum": ["formal", "pirate"]}, "unit": {"enum": ["c", "f"]}}
    assert {"style": "pirate", "unit": "c"} == filled("Generate a Pirate greeting, not formal", fields)


def test_names_of_tools_and_fields_are_no_literals():
    """The name of a function in quotes is not an argument of it."""
    assert {"name": "Ada"} == filled(
        "Call 'create' with 'name' and 'Ada'", {"name": STRING}, ignored=["create"]
    )


def test_an_object_does_not_take_a_literal_after_its_name():
    """A text after the name of an object is for a field of the object."""
    hotel = {
        "type": "object",
        "properties": {"name": STRING, "stars": INTEGER},
        "required": ["name", "stars"],
    }
    for schema in (hotel, {"$ref": "#/$defs/Hotel"}, {"allOf": [{"$ref": "#/$defs/Hotel"}]}):
        root = {"type": "object", "properties": {"hotel": schema}, "$defs": {"Hotel": hotel}}
        literals = Literals("the hotel 'Roma' with 4 stars", names=scalar_names(root))
        assert {"hotel": {"name": "Roma", "stars": 4}} == json_sample(root, literals)


def test_nested_fields_are_filled():
    """Fields of nested objects and of items of arrays take literals, too."""
    item = {"type": "object", "properties": {"n": INTEGER}, "required": ["n"]}
    assert {"items": [{"n": 7}]} == filled("seven is 7", {"items": {"type": "array", "items": item}})


@pytest.mark.parametrize("text", ["'" * 100_000, "a=" * 100_000, '"\n' * 100_000, "-1" * 100_000, "\ud800 1"])
def test_hostile_text_is_bounded(text):
    """Any text is read in bounded time, and gives a value that fits."""
    assert {"a", "b"} == filled(text, {"a": INTEGER, "b": STRING}).keys()


def test_a_named_literal_leaves_equal_ones():
    """A literal that is equal to a named one is still there for another field."""
    assert {"a": 2, "b": 2} == filled("add a=2 and 2", {"a": INTEGER, "b": INTEGER})


def test_hostile_schemas_are_bounded():
    """Deep and large schemas are read in bounded time, up to a number of names."""
    deep = {"type": "string"}
    for _ in range(5_000):
        deep = {"type": "array", "items": deep}
    wide = {f"name{number}": {"enum": ["a"] * 10_000} for number in range(NAMES_MAX * 10)}

    assert ["a"] == scalar_names({"properties": {"a": deep}})
    assert NAMES_MAX == len(scalar_names({"properties": wide}))
    assert {"e": "x"} == filled("the y", {"e": {"enum": ["x"] * 100_000 + ["y"]}})


def test_the_number_of_literals_is_bounded():
    """Literals beyond the bound are not taken."""
    literals = Literals("1 " * (LITERALS_MAX + 5))
    taken = [literals.take(INTEGER, name="", json_type="integer") for _ in range(LITERALS_MAX + 5)]
    assert [1] * LITERALS_MAX + [None] * 5 == taken
