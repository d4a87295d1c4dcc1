"""The shipped catalog: its required contents."""

import csv
import datetime as dt
from pathlib import Path

import pytest

from togetherchat.v1 import models_pb2 as models
from togetherchat_server.models.catalog import Catalog, load_catalog
from togetherchat_server.providers.together.reasoning_effort import TOGGLE, WORDS

BRIEF = Path(__file__).with_name("brief_models.tsv")
AVAILABILITY = {
    frozenset({"SERVERLESS"}): models.AVAILABILITY_SERVERLESS,
    frozenset({"DEDICATED"}): models.AVAILABILITY_DEDICATED,
    frozenset({"SERVERLESS", "DEDICATED"}): models.AVAILABILITY_BOTH,
}


@pytest.fixture(scope="module")
def shipped() -> Catalog:
    return load_catalog(None)


def brief_rows() -> list[dict[str, str]]:
    with BRIEF.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def brief_lists() -> dict[str, set[str]]:
    lists: dict[str, set[str]] = {}
    for row in brief_rows():
        lists.setdefault(row["id"], set()).add(row["list"])
    return lists


def test_the_brief_is_complete():
    """30 serverless and 31 dedicated rows, which name 50 models."""
    rows = brief_rows()
    assert [row["list"] for row in rows].count("SERVERLESS") == 30
    assert [row["list"] for row in rows].count("DEDICATED") == 31
    assert len(brief_lists()) == 50


@pytest.mark.parametrize("row", brief_rows(), ids=lambda row: f"{row['list']}-{row['id']}")
def test_every_model_of_the_brief_has_its_context_length_and_quantization(row, shipped):
    """No row of the two lists is missing or changed."""
    model = shipped.by_id[row["id"]]
    assert int(row["context_length"]) == model.context_length
    assert row["quantization"] == model.quantization


@pytest.mark.parametrize(
    ("model_id", "lists"),
    sorted(brief_lists().items()),
    ids=lambda value: str(sorted(value)) if isinstance(value, set) else value,
)
def test_availability_follows_the_lists_of_the_brief(model_id, lists, shipped):
    """A model in both lists is available both ways."""
    assert AVAILABILITY[frozenset(lists)] == shipped.by_id[model_id].availability


def test_every_model_is_a_chat_model_with_a_name_and_an_organization(shipped):
    """Every model has what a list on a screen shows."""
    assert [
        model.id
        for model in shipped.by_id.values()
        if not (model.type == "chat" and model.display_name and model.organization)
    ] == []


@pytest.mark.parametrize(
    ("model_id", "date"),
    [
        ("meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo", "2026-03-06"),
        ("meta-llama/Llama-3.3-70B-Instruct-Turbo", "2026-10-22"),
        ("openai/gpt-oss-20b", "2026-09-15"),
        ("thinkingmachines/Inkling", "2026-11-06"),
        ("google/gemma-2-9b-it", "2025-06-13"),
        ("moonshotai/Kimi-K2.5", "2026-05-21"),
    ],
)
def test_known_retirement_dates_are_in_the_catalog(model_id, date, shipped):
    """A date has the format YYYY-MM-DD."""
    assert date == shipped.by_id[model_id].retirement_date


def test_the_successors_that_the_provider_names_are_in_the_catalog(shipped):
    """Its page has one redirect by id. No successor is a retired model."""
    expected = {"mistralai/Mistral-7B-Instruct-v0.3": "mistralai/Ministral-3-14B-Instruct-2512"}
    assert expected == shipped.replacements
    assert [] == [successor for successor in expected.values() if shipped.by_id[successor].retirement_date]


def test_eleven_models_are_in_both_lists():
    """The 61 rows have 50 distinct ids."""
    assert 11 == sum(len(lists) == 2 for lists in brief_lists().values())


def test_retirement_dates_are_valid_days(shipped):
    """Each parses as a date."""
    for model in shipped.by_id.values():
        if model.retirement_date:
            assert model.retirement_date == dt.date.fromisoformat(model.retirement_date).isoformat()


def test_prices_are_those_of_the_documentation(shipped):
    """A current model has all three, in USD per million tokens."""
    assert models.Pricing(
        input_usd_per_million_tokens=1.40,
        cached_input_usd_per_million_tokens=0.26,
        output_usd_per_million_tokens=4.40,
    ) == shipped.price("zai-org/GLM-5.3")


@pytest.mark.parametrize(
    ("model_id", "inputs", "features", "efforts"),
    [
        (
            "openai/gpt-oss-120b",
            ["text"],
            ["tools", "json_schema", "reasoning"],
            ["low", "medium", "high"],
        ),
        (
            "moonshotai/Kimi-K3",
            ["text", "image"],
            ["tools", "json_schema", "reasoning", "reasoning_toggle"],
            ["low", "medium", "high", "max"],
        ),
        (
            "Qwen/Qwen3.5-9B",
            ["text", "image"],
            ["tools", "json_schema", "reasoning", "reasoning_toggle"],
            [],
        ),
        ("zai-org/GLM-5.3-Flash", ["text", "image"], ["tools", "json_schema", "reasoning"], []),
        ("Qwen/Qwen3.8-Flash", [], [], []),
    ],
)
def test_capabilities_are_those_of_the_sources(model_id, inputs, features, efforts, shipped):
    """A model that no source describes has none: empty means unknown."""
    model = shipped.by_id[model_id]
    assert (inputs, features, efforts) == (
        list(model.input_modalities),
        list(model.features),
        list(model.reasoning_efforts),
    )


def test_every_model_with_reasoning_efforts_or_a_toggle_has_the_feature(shipped):
    """The members of a row agree."""
    assert [] == [
        model.id
        for model in shipped.by_id.values()
        if (model.reasoning_efforts or TOGGLE in model.features) and "reasoning" not in model.features
    ]


def test_every_reasoning_effort_is_a_known_word_in_its_order(shipped):
    """Otherwise the service could not replace another word by it."""
    for model in shipped.by_id.values():
        words = list(model.reasoning_efforts)
        assert sorted(words, key=WORDS.index) == words


@pytest.mark.parametrize(
    ("model_id", "context_length", "prices"),
    [
        ("moonshotai/Kimi-K3.1-Pro", 1048576, (2.0, 0.2, 10.0)),
        ("ricursive-ai/Ripple-65B-Preview", 131072, (0.2, 0.02, 0.6)),
        ("together/Tev1-4B-experimental", 32768, (0.042, None, 0.0)),
        ("essentialai/rnj-1-instruct", 32768, (0.15, None, 0.15)),
    ],
)
def test_the_models_of_november_are_in_the_catalog(model_id, context_length, prices, shipped):
    """Their prices are those that were listed when they were added."""
    model = shipped.by_id[model_id]
    incoming, cached, outgoing = prices
    assert (context_length, "") == (model.context_length, model.retirement_date)
    assert model.pricing == models.Pricing(
        input_usd_per_million_tokens=incoming,
        cached_input_usd_per_million_tokens=cached,
        output_usd_per_million_tokens=outgoing,
    )


def test_a_free_model_has_a_price_of_zero(shipped):
    """A model with an unknown price has none."""
    free = shipped.price("Prism-ML/Ternary-Bonsai-27B")
    assert free is not None
    assert free.HasField("input_usd_per_million_tokens")
    assert free.input_usd_per_million_tokens == 0
    assert shipped.price("databricks/dbrx-instruct") is None


def test_the_catalog_has_the_month_of_its_newest_list(shipped):
    """The month dates the whole catalog."""
    assert shipped.as_of == "2026-11"
