"""The count of a JSON text's elements, compared with the parsed text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from togetherchat_server.frontends.http.openai import json_elements as module
from togetherchat_server.frontends.http.openai.json_elements import json_elements

TEXTS = st.text(alphabet='\\"{}[],:ab\n\té😀')
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=40,
)


def expected(value):
    """Return the number of containers and of commas between their members."""
    if not isinstance(value, list | dict):
        return 0
    members = list(value.values()) if isinstance(value, dict) else value
    return 1 + max(0, len(members) - 1) + sum(map(expected, members))


@given(value=VALUES, slice_bytes=st.integers(1, 40), ascii_only=st.booleans())
def test_the_count_is_that_of_the_parsed_text(value, slice_bytes, ascii_only):
    """Wherever the text is cut into slices, strings and their escapes are never counted."""
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SLICE_BYTES", slice_bytes)

        assert expected(value) == sum(json_elements(text))


@pytest.mark.parametrize("unit", [b"[],", b"{},", b"1,", b'"",', b'{"a":', b"[", b'"\\",",', b'"\\\\",'])
def test_the_count_grows_with_what_a_parser_would_create(unit):
    """A megabyte of small elements exceeds any bound, whatever they are."""
    assert 10_000 <= sum(json_elements(b'{"messages":[' + unit * 10_000))


@pytest.mark.parametrize(
    "text", [b'"' + b"[,{" * 50_000, b'"' + b"\\\\" * 100_000 + b'"', b'"' + b'\\"' * 100_000]
)
def test_a_long_string_has_no_elements(text):
    """Prompts have commas and brackets, and quoted code has escapes."""
    assert 0 == sum(json_elements(text))
