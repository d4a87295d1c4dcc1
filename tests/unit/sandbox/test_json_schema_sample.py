"""A value that fits a JSON schema."""

import pytest

from togetherchat_sandbox.json_schema_sample import DEPTH_MAX, FORMATS, VALUES_MAX, json_sample


@pytest.mark.parametrize(
    ("expected", "schema"),
    [
        ("sample", {"type": "string"}),
        (1, {"type": "integer"}),
        (7, {"type": "integer", "minimum": 7}),
        (-3, {"type": "integer", "maximum": -3}),
        (10, {"type": "integer", "minimum": 6, "multipleOf": 5}),
        (1.5, {"type": "number", "exclusiveMinimum": 0.5}),
        (True, {"type": "boolean"}),
        (None, {"type": "null"}),
        ("b", {"enum": ["b", "c"]}),
        ({"a": 1}, {"const": {"a": 1}}),
        (FORMATS["date"], {"type": "string", "format": "date"}),
        ("777", {"type": "string", "pattern": r"^\d{3}$"}),
        ("sample....", {"type": "string", "minLength": 10}),
        ("sam", {"type": "string", "maxLength": 3}),
        (1, {"type": ["null", "integer"]}),
        (1, {"anyOf": [{"type": "null"}, {"type": "integer"}]}),
        (["sample", "sample"], {"type": "array", "items": {"type": "string"}, "minItems": 2}),
        ([], {"type": "array"}),
        ({}, {"type": "object"}),
        ("sample", {}),
    ],
)
def test_each_keyword(expected, schema):
    """Each kind of schema has one small value."""
    assert expected == json_sample(schema)


def test_only_what_is_required():
    """Optional properties are omitted where others are required."""
    schema = {"properties": {"city": {"type": "string"}, "unit": {"type": "string"}}, "required": ["city"]}
    assert {"city": "sample city"} == json_sample(schema)


def test_everything_where_nothing_is_required():
    """Without a list of required properties, all properties are included."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "boolean"}}}
    assert {"a": 1, "b": True} == json_sample(schema)


def test_nested_objects_and_arrays():
    """Objects in arrays in objects are filled in."""
    item = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    schema = {"type": "object", "properties": {"items": {"type": "array", "items": item}}}
    assert {"items": [{"n": 1}]} == json_sample(schema)


def test_references_are_followed():
    """`$ref` into `$defs` is replaced by its definition."""
    schema = {
        "$defs": {"age": {"type": "integer", "minimum": 18}},
        "properties": {"age": {"$ref": "#/$defs/age"}},
    }
    assert {"age": 18} == json_sample(schema)


def test_parts_are_merged():
    """The schemas of `allOf` are merged."""
    parts = [
        {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
        {"properties": {"b": {"type": "boolean"}}, "required": ["b"]},
    ]
    assert {"a": 1, "b": True} == json_sample({"type": "object", "allOf": parts})


def test_a_schema_that_contains_itself_ends():
    """Recursion stops at a maximum depth, with null."""
    value = json_sample({"properties": {"next": {"$ref": "#"}}, "required": ["next"]})
    depth = 0
    while value is not None:
        value = value["next"]
        depth += 1
    assert DEPTH_MAX + 1 == depth


def test_a_schema_that_multiplies_itself_ends():
    """A tree with millions of leaves is truncated at a number of values."""
    names = list("abcdefgh")
    schema = {"properties": {name: {"$ref": "#"} for name in names}, "required": names}
    assert VALUES_MAX * len(names) >= _size(json_sample(schema))


def test_a_reference_to_itself_ends():
    """A definition that references itself yields a value and does not hang."""
    assert "sample" == json_sample({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"})


def _size(value):
    return 1 + sum(_size(item) for item in value.values()) if isinstance(value, dict) else 1
