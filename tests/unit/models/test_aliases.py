"""The rules for a set of aliases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from togetherchat_server.config import Configuration, ProviderConfig, Settings, SettingsError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.models.aliases import ModelAliases, resolve_aliases, resolve_chains
from togetherchat_server.models.catalog import Catalog

LISTED = frozenset({"maker/one", "maker/two"})


def test_an_alias_resolves_to_a_model_of_the_catalog():
    """A listed id may itself be an alias: so an operator can replace a retired model."""
    named = {"fast": "maker/one", "maker/one": "maker/two"}
    assert {"fast": "maker/two", "maker/one": "maker/two"} == resolve_chains(named, listed=LISTED)


def test_an_alias_may_name_another_alias():
    """The alias resolves to the end of the chain."""
    named = {"a": "b", "b": "c", "c": "maker/two"}
    assert dict.fromkeys("abc", "maker/two") == resolve_chains(named, listed=LISTED)


@pytest.mark.parametrize(
    ("named", "cycle"),
    [
        ({"a": "a"}, "a -> a"),
        ({"a": "b", "b": "a"}, "a -> b -> a"),
        ({"x": "a", "a": "b", "b": "c", "c": "a"}, "x -> a -> b -> c -> a"),
        ({"maker/one": "maker/two", "maker/two": "maker/one"}, "maker/one -> maker/two -> maker/one"),
    ],
)
def test_a_cycle_is_rejected_with_its_chain(named, cycle):
    """It is rejected whether its models are listed or not."""
    for listed in (LISTED, None):
        with pytest.raises(SettingsError) as raised:
            resolve_chains(named, listed=listed)
        assert f"--alias: the aliases form a cycle: {cycle}" == str(raised.value)


def test_an_unknown_target_is_rejected():
    """A typing error would otherwise fail every call of that alias with NOT_FOUND."""
    with pytest.raises(SettingsError, match=r"--alias fast=maker/on: maker/on is neither a model"):
        resolve_chains({"fast": "maker/on"}, listed=LISTED)


def test_without_a_list_a_target_may_be_anything():
    """It may be a private model, or one of another provider."""
    assert {"fast": "my/own"} == resolve_chains({"fast": "my/own"}, listed=None)


def test_a_name_that_is_not_an_alias_resolves_to_itself():
    """Names are case-sensitive, as for the provider."""
    names = ModelAliases(aliases={"fast": "maker/one"})
    assert ["maker/one", "Fast", "maker/two"] == [
        names.resolve(name) for name in ("fast", "Fast", "maker/two")
    ]


def configured(base_url=None, **settings):
    upstream = base_url and ProviderConfig(base_url=base_url, key=Secret("key"))
    return Configuration(settings=Settings(**settings), provider=upstream or None)


CATALOG = Catalog(by_id=dict.fromkeys(LISTED), as_of="", replacements={"maker/one": "maker/two"})
UNKNOWN = {"fast": "my/own"}


def test_with_together_a_target_must_be_listed():
    """`alias_unlisted` lifts the rule."""
    together = "https://api.together.ai/v1"
    with pytest.raises(SettingsError, match="my/own is neither"):
        resolve_aliases(configured(together, alias=UNKNOWN), CATALOG)
    assert (
        UNKNOWN == resolve_aliases(configured(together, alias=UNKNOWN, alias_unlisted=True), CATALOG).aliases
    )


def test_with_an_empty_catalog_a_target_may_be_anything():
    """`--model-catalog off` leaves no list to compare with."""
    configuration = configured("https://api.together.ai/v1", alias=UNKNOWN)
    assert UNKNOWN == resolve_aliases(configuration, Catalog(by_id={}, as_of="")).aliases


@pytest.mark.parametrize("base_url", [None, "http://localhost:8000/v1"])
def test_with_another_provider_a_target_may_be_anything(base_url):
    """The catalog has Together's models only."""
    assert UNKNOWN == resolve_aliases(configured(base_url, alias=UNKNOWN), CATALOG).aliases


def test_successors_can_be_turned_off():
    """Then a rejected model is not replaced."""
    assert CATALOG.replacements == resolve_aliases(configured(), CATALOG).replacements
    assert {} == resolve_aliases(configured(replace_retired=False), CATALOG).replacements


def test_an_alias_takes_precedence_over_a_successor():
    """The operator's choice counts more than the provider's."""
    names = ModelAliases(aliases={"a": "b"}, replacements={"a": "c", "d": "e"})
    assert {"a": "b", "d": "e"} == names.all()


NAMES = st.sampled_from(["a", "b", "c", "d", "maker/one"])


@given(named=st.dictionaries(NAMES, NAMES))
def test_every_chain_ends_at_a_model_or_is_a_cycle(named):
    """For any set of aliases, the result has no alias among its targets, and the function returns."""
    try:
        resolved = resolve_chains(named, listed=None)
    except SettingsError:
        assert any(_leads_to(name, name, named) for name in named)
    else:
        assert set(named) == set(resolved)
        assert not set(named) & set(resolved.values())
        assert all(_leads_to(name, resolved[name], named) for name in named)


def _leads_to(start, end, named):
    target = named.get(start)
    for _ in named:
        if target == end:
            return True
        target = named.get(target)
    return False
