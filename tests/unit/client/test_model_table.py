"""Tests of the table of models."""

import io
import re
from itertools import pairwise

import pytest

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_client.cli.arguments import UsageError, parse
from togetherchat_client.cli.model_table import (
    DETAILS,
    SHORT_WORD_BY_STATE,
    detail_rows,
    plain_rows,
    price,
    table_for,
    tokens,
)
from togetherchat_client.cli.models import run, run_one
from togetherchat_client.cli.terminal import Terminal

LONGEST = "gradientai/Llama-3-70B-Instruct-Gradient-1048k"
"""The longest id in the catalog of a model that is not retired."""


def model(model_id="a/b", *, context=None, prices=(), **more):
    made = models.Model(id=model_id, context_length=context, state=models.MODEL_STATE_ACTIVE)
    made.MergeFrom(models.Model(**more))
    fields = (
        "input_usd_per_million_tokens",
        "output_usd_per_million_tokens",
        "cached_input_usd_per_million_tokens",
    )
    for field, usd in zip(fields, prices, strict=False):
        setattr(made.pricing, field, usd)
    return made


FULL = model(
    "openai/gpt-oss-120b",
    context=131072,
    prices=(0.15, 0.6, 0.075),
    quantization="MXFP4",
    availability=models.AVAILABILITY_SERVERLESS,
    aliases=["fast", "small"],
    input_modalities=["text", "image"],
    output_modalities=["text"],
    features=["tools", "reasoning"],
    max_output_tokens=16384,
    reasoning_efforts=["low", "high"],
    streaming_only=False,
    notes=["A remark.", "Another one."],
)
RETIRED = model("old/one", state=models.MODEL_STATE_RETIRED, retirement_date="2026-03-06")
LEAVING = model("new/one", retirement_date="2026-12-31")
UNSURE = model(LONGEST, context=1048576, prices=(15.0, 15.0), state=models.MODEL_STATE_UNCONFIRMED)
SHELF = [FULL, RETIRED, LEAVING, UNSURE]


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (1, "1"), (512, "512"), (1000, "1k"), (2048, "2k"), (8192, "8k"), (32768, "32k"), (32769, "32k"),
        (128000, "128k"), (130815, "128k"), (131072, "128k"), (524288, "512k"), (1000000, "1M"),
        (1010000, "1.01M"), (1048575, "1M"), (1048576, "1M"), (2097152, "2M"), (2**31 - 1, "2048M"),
    ],
)  # fmt: skip
def test_a_context_length_is_rounded(count, shown):
    """Multiples of 1000 are divided by 1000, others by 1024."""
    assert shown == tokens(count)


@pytest.mark.parametrize(
    ("usd", "shown"),
    [(0.0, "free"), (0.15, "0.15"), (0.6, "0.60"), (15.0, "15.00"), (0.282, "0.282"), (0.006, "0.006")],
)
def test_a_price_has_two_or_more_decimals(usd, shown):
    """No digit is rounded away, and zero is `free`."""
    assert shown == price(usd)


def test_a_wide_window_shows_everything():
    """All columns, with past and future retirement dates and aliases."""
    table = table_for(SHELF, width=180)
    headings = ("id", "context", "max out", "$in", "$cached", "$out", "quant.", "use", "state")
    assert (*headings, "features", "aliases") == table.headings
    assert [
        (
            "openai/gpt-oss-120b",
            "128k",
            "16k",
            "0.15",
            "0.075",
            "0.60",
            "MXFP4",
            "serverless",
            "active",
            "tools reasoning",
            "fast small",
        ),
        ("old/one", "-", "-", "-", "-", "-", "-", "-", "retired since 2026-03-06", "-", "-"),
        ("new/one", "-", "-", "-", "-", "-", "-", "-", "active until 2026-12-31", "-", "-"),
        (LONGEST, "1M", "-", "15.00", "-", "15.00", "-", "-", "unconfirmed", "-", "-"),
    ] == table.rows
    assert {"context", "max out", "$in", "$cached", "$out"} == table.numbers


def test_80_columns_show_the_longest_id_with_context_prices_and_state():
    """The less important columns are omitted. A future retirement date is still shown."""
    table = table_for(SHELF, width=80)
    assert ("id", "context", "$in", "$out", "state") == table.headings
    assert ["active", "retired", "to 12-31", "unconf."] == [row[-1] for row in table.rows]
    assert (LONGEST, "1M", "15.00", "15.00", "unconf.") == table.rows[-1]
    assert printed_width(table) <= 80


def test_columns_are_omitted_one_by_one():
    """As the window narrows: features, output limit, cached price, use, quantization, the long state, aliases."""
    seen = []
    for width in range(180, 60, -1):
        headings = table_for(SHELF, width=width).headings
        if headings not in seen:
            seen.append(headings)
    omitted = [set(before) - set(after) for before, after in pairwise(seen)]
    assert [{"features"}, {"max out"}, {"$cached"}, {"use"}, {"quant."}, {"aliases"}] == omitted


def test_a_column_that_few_models_have_is_shown_only_with_values():
    """Most services configure no alias, and many models have no known features and no output limit."""
    assert set() == {"aliases", "features", "max out"} & set(table_for([RETIRED], width=200).headings)


def test_a_table_without_models_has_headings_only():
    """The filters may match no model."""
    table = table_for([], width=80)
    assert ([], "id") == (table.rows, table.headings[0])


def test_a_pipe_gets_everything_unrounded():
    """The sixteen columns do not depend on the window."""
    assert [
        (
            "openai/gpt-oss-120b",
            "131072",
            "0.15",
            "0.6",
            "MXFP4",
            "serverless",
            "active",
            "0.075",
            "-",
            "fast,small",
            "16384",
            "tools,reasoning",
            "text,image",
            "text",
            "low,high",
            "false",
        ),
        ("old/one", *["-"] * 5, "retired", "-", "2026-03-06", *["-"] * 7),
    ] == plain_rows([FULL, RETIRED])


def test_one_model_has_a_row_for_each_known_field():
    """Unknown fields are left out, and numbers are not rounded."""
    made = models.Model(
        display_name="gpt-oss 120B",
        organization="OpenAI",
        type="chat",
        license="Apache-2.0",
        uri="https://example.com/gpt-oss",
        source=models.MODEL_SOURCE_BOTH,
    )
    made.MergeFrom(FULL)
    made.create_time.FromSeconds(1754300000)
    made.pricing.hourly_usd = 4.5
    assert [
        ("id", "openai/gpt-oss-120b"),
        ("name", "gpt-oss 120B"),
        ("organization", "OpenAI"),
        ("type", "chat"),
        ("state", "active"),
        ("availability", "serverless"),
        ("context length", "131072"),
        ("max output tokens", "16384"),
        ("quantization", "MXFP4"),
        ("input modalities", "text,image"),
        ("output modalities", "text"),
        ("features", "tools,reasoning"),
        ("reasoning efforts", "low,high"),
        ("streaming only", "false"),
        ("notes", "A remark. Another one."),
        ("input price", "0.15"),
        ("cached input price", "0.075"),
        ("output price", "0.6"),
        ("hourly price", "4.5"),
        ("license", "Apache-2.0"),
        ("page", "https://example.com/gpt-oss"),
        ("created", "2025-08-04"),
        ("aliases", "fast,small"),
        ("source", "both"),
    ] == detail_rows(made)
    assert [("id", "old/one"), ("state", "retired since 2026-03-06")] == detail_rows(RETIRED)


def test_a_retirement_date_that_has_passed_is_not_a_limit():
    """The notes of a model that the provider still lists have the date."""
    outlived = model(
        "old/two", retirement_date="2026-03-06", notes=["The provider still lists it after 2026-03-06."]
    )
    assert ("state", "active") in detail_rows(outlived)
    assert ["active", "active"] == [table_for([outlived], width=width).rows[0][-1] for width in (180, 20)]


def test_every_field_of_a_model_is_a_detail():
    """A field that is added to the contract must be added to the details. Prices are rows of their own."""
    nested = {"pricing": 4, "retirement_date": 0}
    count = sum(nested.get(field.name, 1) for field in models.Model.DESCRIPTOR.fields)
    assert count == len(DETAILS)


def test_every_state_has_a_short_word():
    """No short word is longer than a retirement date."""
    assert set(models.ModelState.values()) == set(SHORT_WORD_BY_STATE)
    assert max(map(len, SHORT_WORD_BY_STATE.values())) <= len("to 12-31")


def printed_width(table):
    columns = zip(table.headings, *table.rows, strict=True)
    return sum(max(map(len, column)) for column in columns) + 2 * (len(table.headings) - 1)


class FakeTerminal(io.StringIO):
    """A fake terminal."""

    def isatty(self):
        return True


class FakeClient:
    """A fake client that returns given pages."""

    def __init__(self, *pages):
        self.pages = pages
        self.filters = {}

    def model_pages(self, **filters):
        self.filters = filters
        return iter(self.pages)

    def get_model(self, model_id):
        return service.GetModelResponse(
            model=models.Model(id=model_id, context_length=8192), warnings=[chat.Warning(message="stale")]
        )


def printed(client, *words, out=None, monkeypatch=None, columns="80", subcommand="models", act=run):
    out, err = out or FakeTerminal(), io.StringIO()
    monkeypatch.setenv("COLUMNS", columns)
    act(client, parse([subcommand, *words], {}), Terminal(out, err, color=False))
    return re.sub(r"\x1b\[\d*m", "", out.getvalue()), err.getvalue()


def page_of(*listed, warnings=()):
    return service.ListModelsResponse(
        models=listed, warnings=[chat.Warning(message=text) for text in warnings], next_page_token="next"
    )


def test_a_terminal_of_80_columns_gets_a_table_that_fits(monkeypatch):
    """Retired models are left out, ids are whole, and numbers are right-aligned."""
    text, _ = printed(FakeClient(page_of(*SHELF)), monkeypatch=monkeypatch)
    lines = text.splitlines()
    assert 4 == len(lines)
    assert max(map(len, lines)) <= 80
    assert f"{LONGEST}       1M  15.00  15.00  unconf." == lines[3]
    assert lines[1].startswith("openai/gpt-oss-120b ")


def test_a_wide_terminal_gets_more_columns(monkeypatch):
    """Retirement dates and aliases are shown too."""
    text, _ = printed(FakeClient(page_of(*SHELF)), "--all", monkeypatch=monkeypatch, columns="180")
    assert "retired since 2026-03-06" in text
    assert "fast small" in text


def test_each_warning_is_printed_once(monkeypatch):
    """A warning about a stale list is on every page, and a warning about a rejected model on one."""
    pages = page_of(FULL, warnings=["stale", "rejected a"]), page_of(UNSURE, warnings=["stale", "rejected b"])
    _, err = printed(FakeClient(*pages), monkeypatch=monkeypatch)
    warnings = [line.rpartition("warning: ")[2] for line in err.splitlines() if "warning" in line]
    assert ["stale", "rejected a", "rejected b"] == warnings


def test_one_model_is_a_table_on_a_terminal(monkeypatch):
    """The columns are the field and its value, and warnings are printed on standard error."""
    text, err = printed(FakeClient(), "a/b", monkeypatch=monkeypatch, subcommand="model", act=run_one)
    assert ["field           value", "id              a/b", "context length  8192"] == [
        line.rstrip() for line in text.splitlines()
    ]
    assert "warning: stale" in err


@pytest.mark.parametrize(
    ("options", "order_by"),
    [
        ("", ""),
        ("--sort id", "id"),
        ("--sort id --reverse", "id desc"),
        ("--sort context", "context_length desc"),
        ("--sort context --reverse", "context_length"),
        ("--sort price", "input_price"),
        ("--sort price --reverse", "input_price desc"),
    ],
)
def test_the_best_value_is_first(options, order_by, monkeypatch):
    """The longest context and the lowest price come first, and `--reverse` turns the order around."""
    client = FakeClient(page_of(FULL))
    printed(client, *options.split(), monkeypatch=monkeypatch)
    assert order_by == client.filters["order_by"]


def test_reverse_alone_is_wrong_usage(monkeypatch):
    """The default order has no reverse."""
    with pytest.raises(UsageError, match="--reverse needs --sort"):
        printed(FakeClient(), "--reverse", monkeypatch=monkeypatch)


def test_state_retired_shows_retired_models(monkeypatch):
    """`--state retired` does not need `--all`."""
    client = FakeClient(page_of(RETIRED))
    text, _ = printed(client, "--state", "retired", monkeypatch=monkeypatch)
    assert models.MODEL_STATE_RETIRED == client.filters["state"]
    assert "old/one" in text
