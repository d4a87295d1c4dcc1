"""The rules that a set of aliases must keep."""

import pytest

from togetherchat_server.catalog.aliases import ModelNames, resolved_aliases
from togetherchat_server.config import SettingsError

LISTED = frozenset({"maker/one", "maker/two"})


def test_an_alias_stands_for_a_model_of_the_catalogue():
    """A listed id may itself be an alias: that is how a retired one is led on."""
    named = {"fast": "maker/one", "maker/one": "maker/two"}
    assert {"fast": "maker/two", "maker/one": "maker/two"} == resolved_aliases(named, listed=LISTED)


def test_an_alias_may_name_another():
    """What counts is where the way ends."""
    named = {"a": "b", "b": "c", "c": "maker/two"}
    assert dict.fromkeys("abc", "maker/two") == resolved_aliases(named, listed=LISTED)


@pytest.mark.parametrize(
    ("named", "circle"),
    [
        ({"a": "a"}, "a -> a"),
        ({"a": "b", "b": "a"}, "a -> b -> a"),
        ({"x": "a", "a": "b", "b": "c", "c": "a"}, "x -> a -> b -> c -> a"),
        ({"maker/one": "maker/two", "maker/two": "maker/one"}, "maker/one -> maker/two -> maker/one"),
    ],
)
def test_a_circle_is_refused_with_the_way_it_takes(named, circle):
    """Listed or not: it has no end."""
    for listed in (LISTED, None):
        with pytest.raises(SettingsError) as raised:
            resolved_aliases(named, listed=listed)
        assert f"--alias goes in a circle: {circle}" == str(raised.value)


def test_a_target_that_nobody_knows_is_refused():
    """A slip of the pen would answer every call of that alias with NOT_FOUND."""
    with pytest.raises(SettingsError, match=r"--alias fast=maker/on: maker/on is neither a model"):
        resolved_aliases({"fast": "maker/on"}, listed=LISTED)


def test_where_the_catalogue_is_not_asked_a_target_may_be_anything():
    """Private models, and other engines."""
    assert {"fast": "my/own"} == resolved_aliases({"fast": "my/own"}, listed=None)


def test_a_name_that_is_no_alias_stands_for_itself():
    """Ids are compared with their case, as the provider does."""
    names = ModelNames(aliases={"fast": "maker/one"})
    assert ["maker/one", "Fast", "maker/two"] == [names.id_of(name) for name in ("fast", "Fast", "maker/two")]
