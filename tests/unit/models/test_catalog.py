"""Reading a catalog strictly, and merging it with the provider's list."""

import datetime as dt
import json

import pytest

from togetherchat.v1 import models_pb2 as models
from togetherchat_server.config import Configuration, ProviderConfig, Settings
from togetherchat_server.models.catalog import (
    Catalog,
    configured_catalog,
    load_catalog,
    merge,
    merged_pricing,
)
from togetherchat_server.models.catalog_file import CatalogError

TODAY = dt.date(2026, 11, 22)
LIST = """
[[lists]]
source = "a page"
as_of = "2026-11"
type = "chat"
availability = "SERVERLESS"
models = [
{rows}
]
"""
ROW = '{ id = "maker/one", display_name = "One", organization = "Maker" },'


def catalog_of(*rows: str) -> Catalog:
    return load_catalog(LIST.replace("{rows}", "\n".join(rows)).encode())


def row(**values: str) -> str:
    fields = {"id": '"maker/one"', "display_name": '"One"', "organization": '"Maker"', **values}
    return "{ " + ", ".join(f"{name} = {value}" for name, value in fields.items()) + " },"


def merged_one(catalog: Catalog, live: list[models.Model] | None, **aliases: str) -> models.Model:
    [model] = merge(catalog, live, today=TODAY, aliases=aliases)
    return model


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"kontext_length": "5"},
            "lists[0].models[0]: unknown member 'kontext_length'; known members: id, display_name",
        ),
        ({"context_length": '"5"'}, "lists[0].models[0].context_length: must be a number of tokens"),
        ({"context_length": "true"}, "lists[0].models[0].context_length"),
        ({"context_length": "0"}, "lists[0].models[0].context_length"),
        ({"context_length": "2147483648"}, "lists[0].models[0].context_length"),
        ({"retirement_date": '"2026-11-22"'}, "lists[0].models[0].retirement_date: must be a date"),
        ({"retirement_date": "2026-11-22T10:00:00"}, "lists[0].models[0].retirement_date"),
        ({"retirement_date": "2026-02-30"}, "not TOML"),
        ({"input_usd": "-0.1"}, "lists[0].models[0].input_usd: must be a number, 0 or above"),
        ({"input_usd": "nan"}, "lists[0].models[0].input_usd"),
        ({"output_usd": "inf"}, "lists[0].models[0].output_usd"),
        ({"hourly_usd": "true"}, "lists[0].models[0].hourly_usd"),
        ({"id": '"two words"'}, "lists[0].models[0].id"),
        ({"id": '""'}, "lists[0].models[0].id"),
        ({"id": f'"{"x" * 257}"'}, "lists[0].models[0].id"),
        ({"quantization": '""'}, "lists[0].models[0].quantization"),
        ({"display_name": "5"}, "lists[0].models[0].display_name"),
        ({"features": '"tools"'}, "lists[0].models[0].features"),
        ({"features": '["Tools"]'}, "lists[0].models[0].features[0]: must be a word of a-z 0-9 _"),
        ({"input_modalities": '["text", "smell"]'}, "lists[0].models[0].input_modalities[1]: must be text,"),
        ({"output_modalities": '["touch"]'}, "lists[0].models[0].output_modalities[0]"),
        ({"reasoning_efforts": '[""]'}, "lists[0].models[0].reasoning_efforts[0]"),
        ({"max_output_tokens": "0"}, "lists[0].models[0].max_output_tokens"),
        ({"streaming_only": "1"}, "lists[0].models[0].streaming_only"),
    ],
)
def test_an_invalid_model_is_rejected_with_the_member_and_the_rule(values, message):
    """The error has the path of the member."""
    with pytest.raises(CatalogError) as raised:
        catalog_of(row(**values))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('as_of = "2026-11"', 'as_of = "2026-13"', "lists[0].as_of: must be a month"),
        ('as_of = "2026-11"', "as_of = 2026-11-01", "lists[0].as_of"),
        ('as_of = "2026-11"', "", "lists[0].as_of: is missing"),
        ('source = "a page"', "", "lists[0].source: is missing"),
        ('"SERVERLESS"', '"ANY"', "lists[0].availability: must be SERVERLESS, DEDICATED or BOTH"),
        (
            'type = "chat"',
            'typ = "chat"',
            "lists[0]: unknown member 'typ'; known members: source, as_of, type, availability, models",
        ),
        ("models = [", "models = [1,", "lists[0].models[0]: must be a table"),
        ("[[lists]]", "[lists]", "the model catalog: lists: must be a list"),
        ("[[lists]]", "[[liste]]", "the model catalog: unknown member 'liste'; known members: lists"),
        ("[[lists]]", "[[lists", "not TOML"),
    ],
)
def test_an_invalid_list_is_rejected_with_the_member_and_the_rule(before, after, message):
    """The rules for a model apply to its list as well."""
    with pytest.raises(CatalogError) as raised:
        load_catalog(LIST.replace("{rows}", ROW).replace(before, after).encode())
    assert message in str(raised.value)


def test_a_missing_member_is_named():
    """A model must have an organization."""
    with pytest.raises(CatalogError, match=r"lists\[0\]\.models\[0\]\.organization: is missing"):
        catalog_of('{ id = "maker/one", display_name = "One" },')


def test_an_id_that_occurs_twice_is_rejected():
    """Two entries with one id would be ambiguous."""
    with pytest.raises(CatalogError, match=r"lists\[0\].models\[1\].id: maker/one is in the catalog twice"):
        catalog_of(ROW, ROW)


def test_a_file_that_is_not_utf_8_is_rejected():
    """Invalid bytes raise the same error as invalid TOML."""
    with pytest.raises(CatalogError, match="not TOML in UTF-8"):
        load_catalog(b"\xff")


def test_a_catalog_without_models_is_valid():
    """ListModels then returns the provider's list."""
    assert load_catalog(b"lists = []") == Catalog(by_id={}, as_of="")


def test_without_a_live_list_a_model_is_unconfirmed():
    """Nothing confirms that it is served, or that it is not."""
    model = merged_one(catalog_of(ROW), None)
    assert model.state == models.MODEL_STATE_UNCONFIRMED
    assert model.source == models.MODEL_SOURCE_CATALOG


def test_a_model_that_the_live_list_leaves_out_is_unconfirmed():
    """The list may be that of one key: a missing model may exist for another."""
    model, other = merge(catalog_of(ROW), [models.Model(id="x/y")], today=TODAY, aliases={})
    assert (model.id, model.state) == ("maker/one", models.MODEL_STATE_UNCONFIRMED)
    assert (other.id, other.state) == ("x/y", models.MODEL_STATE_ACTIVE)


@pytest.mark.parametrize(
    ("date", "state"),
    [
        ("2026-11-21", models.MODEL_STATE_RETIRED),
        ("2026-11-22", models.MODEL_STATE_RETIRED),
        ("2026-11-23", models.MODEL_STATE_UNCONFIRMED),
    ],
)
def test_a_model_is_retired_from_its_date_on(date, state):
    """The date is the first day on which it is no longer served."""
    assert state == merged_one(catalog_of(row(retirement_date=date)), None).state


def test_a_model_in_the_live_list_is_active_whatever_its_date():
    """The provider is right about what it lists; the date is kept for information."""
    model = merged_one(catalog_of(row(retirement_date="2026-01-01")), [models.Model(id="maker/one")])
    assert model.state == models.MODEL_STATE_ACTIVE
    assert model.source == models.MODEL_SOURCE_BOTH
    assert model.retirement_date == "2026-01-01"


def test_an_entry_says_that_the_provider_lists_the_model_after_its_retirement():
    """The day itself counts as after; a date in the future and a model that is not listed get no note."""
    live = [models.Model(id="maker/one")]
    for date, noted in (("2026-10-22", True), ("2026-11-22", True), ("2026-11-23", False)):
        catalog = catalog_of(row(retirement_date=date))
        listed, unlisted = merged_one(catalog, live), merged_one(catalog, None)
        assert models.MODEL_STATE_ACTIVE == listed.state
        assert noted == bool(listed.notes)
        assert all(note.endswith(f"{date}.") for note in listed.notes)
        assert not unlisted.notes


@pytest.mark.parametrize(
    ("date", "state"),
    [("2026-10-22", models.MODEL_STATE_RETIRED), ("2026-12-01", models.MODEL_STATE_UNCONFIRMED)],
)
def test_a_listed_model_that_is_not_served_is_retired_after_its_date(date, state):
    """The provider's list of all models keeps retired ones: it disagrees only if it lists them as callable."""
    live = [models.Model(id="maker/one", state=models.MODEL_STATE_UNCONFIRMED, notes=["Not serverless."])]
    model = merged_one(catalog_of(row(retirement_date=date)), live)
    assert (state, ["Not serverless."]) == (model.state, list(model.notes))


def test_a_model_that_only_the_provider_lists_keeps_its_uncertainty():
    """The catalog has nothing to say about it."""
    live = [models.Model(id="my/own", state=models.MODEL_STATE_UNCONFIRMED), models.Model(id="my/other")]
    merged = merge(load_catalog(b"lists = []"), live, today=TODAY, aliases={})
    assert [models.MODEL_STATE_UNCONFIRMED, models.MODEL_STATE_ACTIVE] == [model.state for model in merged]


def test_the_provider_is_right_where_they_differ_and_the_catalog_fills_in_the_rest():
    """A live entry has no quantization and no retirement date: those come from the catalog."""
    catalog = catalog_of(row(context_length="4096", quantization='"FP8"', license='"old"'))
    live = models.Model(id="maker/one", display_name="One!", context_length=8192, type="language")
    live.create_time.seconds = 5
    expected = models.Model(
        id="maker/one",
        display_name="One!",
        organization="Maker",
        type="language",
        context_length=8192,
        quantization="FP8",
        license="old",
        availability=models.AVAILABILITY_SERVERLESS,
        source=models.MODEL_SOURCE_BOTH,
        state=models.MODEL_STATE_ACTIVE,
    )
    expected.create_time.seconds = 5
    assert expected == merged_one(catalog, [live])


CAPABILITIES = {
    "input_modalities": ["text", "image"],
    "output_modalities": ["text"],
    "features": ["tools", "reasoning"],
    "reasoning_efforts": ["low", "max"],
    "max_output_tokens": 4096,
    "streaming_only": True,
}


def capable_row() -> str:
    return row(**{name: json.dumps(value) for name, value in CAPABILITIES.items()})


def test_a_model_has_the_capabilities_of_its_row():
    """What the row leaves out is unset, which means unknown."""
    known, unknown = merged_one(catalog_of(capable_row()), None), merged_one(catalog_of(ROW), None)

    assert models.Model(id="maker/one", **CAPABILITIES) == models.Model(
        id="maker/one", **{name: getattr(known, name) for name in CAPABILITIES}
    )
    assert {field.name for field, _ in unknown.ListFields()}.isdisjoint(CAPABILITIES)


def test_a_list_of_capabilities_is_the_providers_or_the_catalogs():
    """The two lists are not joined: the provider's replaces the other, if it has any."""
    live = models.Model(id="maker/one", features=["json_schema"], max_output_tokens=8192)

    merged = merged_one(catalog_of(capable_row()), [live])

    assert ["json_schema"] == merged.features
    assert ["low", "max"] == merged.reasoning_efforts
    assert 8192 == merged.max_output_tokens


def test_a_model_that_only_the_provider_lists_is_returned_unchanged():
    """The sandbox's models are an example."""
    model = merged_one(Catalog(by_id={}, as_of=""), [models.Model(id="sandbox/echo", context_length=7)])
    assert (
        models.Model(
            id="sandbox/echo",
            context_length=7,
            source=models.MODEL_SOURCE_PROVIDER,
            state=models.MODEL_STATE_ACTIVE,
        )
        == model
    )


def test_ids_are_case_sensitive():
    """For the provider, `One` and `one` are different models."""
    assert [
        model.id for model in merge(catalog_of(ROW), [models.Model(id="maker/One")], today=TODAY, aliases={})
    ] == ["maker/one", "maker/One"]


def test_an_id_that_the_provider_lists_twice_counts_once():
    """The first entry is used."""
    live = [
        models.Model(id="a", license="first"),
        models.Model(id="b"),
        models.Model(id="a", license="second"),
    ]
    merged = merge(Catalog(by_id={}, as_of=""), live, today=TODAY, aliases={})
    assert {model.id: model.license for model in merged} == {"a": "first", "b": ""}
    assert len(merged) == 2


@pytest.mark.parametrize("model_id", ["", "x" * 257])
def test_an_id_that_no_request_could_carry_is_left_out(model_id):
    """A request's model has 1 to 256 characters."""
    assert merge(Catalog(by_id={}, as_of=""), [models.Model(id=model_id)], today=TODAY, aliases={}) == []


def test_a_model_has_its_aliases():
    """Aliases are sorted. An alias of an unlisted model is left out, and so is one in the live list."""
    live = [
        models.Model(id="maker/one", aliases=["foreign"]),
        models.Model(id="maker/two", aliases=["foreign"]),
    ]
    merged = merge(
        catalog_of(ROW),
        live,
        today=TODAY,
        aliases={"small": "maker/one", "fast": "maker/one", "large": "maker/two", "lost": "maker/three"},
    )
    assert {model.id: list(model.aliases) for model in merged} == {
        "maker/one": ["fast", "small"],
        "maker/two": ["large"],
    }


def test_merging_changes_neither_side():
    """All calls share both."""
    catalog, live = catalog_of(row(input_usd="1.0")), [models.Model(id="maker/one"), models.Model(id="x/y")]
    before = (catalog.by_id["maker/one"].SerializeToString(), [model.SerializeToString() for model in live])
    merge(catalog, live, today=TODAY, aliases={"a": "maker/one", "b": "x/y"})
    after = (catalog.by_id["maker/one"].SerializeToString(), [model.SerializeToString() for model in live])
    assert before == after


def pricing(input_: float | None, output: float | None, cached: float | None = None) -> models.Pricing:
    return models.Pricing(
        input_usd_per_million_tokens=input_,
        output_usd_per_million_tokens=output,
        cached_input_usd_per_million_tokens=cached,
    )


def test_a_missing_price_is_that_of_the_catalog_if_the_others_agree():
    """The provider's list gives no cached rate."""
    assert pricing(1.0, 2.0, 0.1) == merged_pricing(pricing(1.0, 2.0), pricing(1.0, 2.0, 0.1))


def test_no_price_of_the_catalog_is_used_if_one_of_them_is_out_of_date():
    """A cached rate belongs to the input price of the same time."""
    assert pricing(0.5, 2.0) == merged_pricing(pricing(0.5, 2.0), pricing(1.0, 2.0, 0.1))


def test_a_live_price_is_used_without_one_in_the_catalog():
    """No other price is added."""
    assert pricing(0.0, 2.0) == merged_pricing(pricing(0.0, 2.0), None)


def test_a_merged_model_has_the_merged_price():
    """Merged lists use the same rule for prices."""
    catalog = catalog_of(row(input_usd="1.0", output_usd="2.0", cached_input_usd="0.1"))
    live = models.Model(id="maker/one", pricing=pricing(0.5, 2.0))
    assert pricing(0.5, 2.0) == merged_one(catalog, [live]).pricing
    assert pricing(1.0, 2.0, 0.1) == merged_one(catalog, [models.Model(id="maker/one")]).pricing


def test_a_model_may_name_its_successor():
    """Successors are kept beside the models: the contract has no field for them."""
    successor = row(id='"maker/two"')
    catalog = catalog_of(row(replaced_by='"maker/two"'), successor)
    assert {"maker/one": "maker/two"} == catalog.replacements


@pytest.mark.parametrize("successor", ["maker/one", "maker/three"])
def test_a_successor_must_be_another_model_of_the_catalog(successor):
    """Neither the model itself nor an unknown one is accepted."""
    with pytest.raises(
        CatalogError, match=f"replaced_by of maker/one: {successor} is not another of its models"
    ):
        catalog_of(row(replaced_by=f'"{successor}"'))


def test_a_listed_model_that_is_unavailable_is_unconfirmed():
    """The provider's responses count more than its list; other models do not change."""
    live = [models.Model(id=model_id) for model_id in ("maker/one", "x/y")]
    catalog = catalog_of(ROW, row(id='"gone"', retirement_date="2026-01-01"))
    merged = merge(catalog, live, today=TODAY, aliases={}, unavailable={"maker/one", "gone"})
    assert {model.id: model.state for model in merged} == {
        "maker/one": models.MODEL_STATE_UNCONFIRMED,
        "gone": models.MODEL_STATE_RETIRED,
        "x/y": models.MODEL_STATE_ACTIVE,
    }


@pytest.mark.parametrize(
    ("base_url", "merged"),
    [
        (None, {"on", "auto"}),
        ("https://api.together.ai/v1", {"on", "auto"}),
        ("http://127.0.0.1:1/v1", {"on"}),
    ],
)
@pytest.mark.parametrize("choice", ["on", "off", "auto"])
def test_the_setting_decides_whether_the_catalog_is_merged(base_url, merged, choice):
    """`auto` merges the catalog for Together's hosts and for the sandbox."""
    provider = base_url and ProviderConfig(base_url=base_url, key=None)
    configuration = Configuration(settings=Settings(model_catalog=choice), provider=provider)

    assert bool(configured_catalog(configuration).by_id) is (choice in merged)
