"""The rules that a set of aliases must keep."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from togetherchat_server.config import Configuration, ProviderConfig, Settings, SettingsError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.models.aliases import ModelNames, resolve_aliases, resolved_aliases
from togetherchat_server.models.catalog import Catalog

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


def configured(base_url=None, **settings):
    upstream = base_url and ProviderConfig(base_url=base_url, key=Secret("key"))
    return Configuration(settings=Settings(**settings), provider=upstream or None)


CATALOG = Catalog(by_id=dict.fromkeys(LISTED), as_of="", replacements={"maker/one": "maker/two"})
UNKNOWN = {"fast": "my/own"}


def test_towards_together_a_target_must_be_listed():
    """Unless it was said that it need not."""
    together = "https://api.together.ai/v1"
    with pytest.raises(SettingsError, match="my/own is neither"):
        resolve_aliases(configured(together, alias=UNKNOWN), CATALOG)
    assert (
        UNKNOWN == resolve_aliases(configured(together, alias=UNKNOWN, alias_unlisted=True), CATALOG).aliases
    )


@pytest.mark.parametrize("base_url", [None, "http://localhost:8000/v1"])
def test_towards_another_engine_a_target_may_be_anything(base_url):
    """The catalogue is of Together's models."""
    assert UNKNOWN == resolve_aliases(configured(base_url, alias=UNKNOWN), CATALOG).aliases


def test_successors_can_be_turned_off():
    """Then a refused model is refused."""
    assert CATALOG.replacements == resolve_aliases(configured(), CATALOG).replacements
    assert {} == resolve_aliases(configured(replace_retired=False), CATALOG).replacements


def test_an_alias_goes_before_a_successor():
    """The operator's word counts more than the provider's."""
    names = ModelNames(aliases={"a": "b"}, replacements={"a": "c", "d": "e"})
    assert {"a": "b", "d": "e"} == names.all()


NAMES = st.sampled_from(["a", "b", "c", "d", "maker/one"])


@given(named=st.dictionaries(NAMES, NAMES))
def test_every_way_ends_at_a_model_or_is_a_circle(named):
    """However names lead to each other: no alias is left in the result, and nothing is asked for ever."""
    try:
        resolved = resolved_aliases(named, listed=None)
    except SettingsError:
        assert any(_leads_to(name, name, named) for name in named)
    else:
        assert set(named) == set(resolved)
        assert not set(named) & set(resolved.values())
        assert all(_leads_to(name, resolved[name], named) for name in named)


def _leads_to(start, end, named):
    place = named.get(start)
    for _ in named:
        if place == end:
            return True
        place = named.get(place)
    return False
