"""How models look in a row."""

import io
import re
from itertools import pairwise

import pytest

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_client.cli.arguments import parse
from togetherchat_client.cli.model_table import SHORT_WORD_BY_STATE, plain_rows, price, table_for, tokens
from togetherchat_client.cli.models import run
from togetherchat_client.cli.terminal import Terminal

LONGEST = "gradientai/Llama-3-70B-Instruct-Gradient-1048k"
"""The longest id of a model of the catalogue that is not known to be retired."""


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
)
RETIRED = model("old/one", state=models.MODEL_STATE_RETIRED, retirement_date="2026-03-06")
LEAVING = model("new/one", retirement_date="2026-12-31")
UNSURE = model(LONGEST, context=1048576, prices=(15.0, 15.0), state=models.MODEL_STATE_UNCONFIRMED)
SHELF = [FULL, RETIRED, LEAVING, UNSURE]


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, "1"), (512, "512"), (1000, "1k"), (2048, "2k"), (8192, "8k"), (32768, "32k"), (32769, "32k"),
        (128000, "128k"), (130815, "128k"), (131072, "128k"), (524288, "512k"), (1000000, "1M"),
        (1010000, "1.01M"), (1048575, "1M"), (1048576, "1M"), (2097152, "2M"), (2**31 - 1, "2048M"),
    ],
)  # fmt: skip
def test_a_context_length_is_said_as_people_say_it(count, said):
    """By 1024 or by 1000, whichever it is made of."""
    assert said == tokens(count)


@pytest.mark.parametrize(
    ("usd", "said"),
    [(0.0, "free"), (0.15, "0.15"), (0.6, "0.60"), (15.0, "15.00"), (0.282, "0.282"), (0.006, "0.006")],
)
def test_a_price_has_cents_and_more_digits_where_it_needs_them(usd, said):
    """None is rounded away; nothing to pay is a word."""
    assert said == price(usd)


def test_a_wide_window_shows_everything():
    """With the day of retirement, gone by or to come, and the names of one's own."""
    table = table_for(SHELF, width=140)
    assert ("id", "context", "$in", "$cached", "$out", "quant.", "use", "state", "aliases") == table.headings
    assert [
        (
            "openai/gpt-oss-120b",
            "128k",
            "0.15",
            "0.075",
            "0.60",
            "MXFP4",
            "serverless",
            "active",
            "fast small",
        ),
        ("old/one", "-", "-", "-", "-", "-", "-", "retired since 2026-03-06", "-"),
        ("new/one", "-", "-", "-", "-", "-", "-", "active until 2026-12-31", "-"),
        (LONGEST, "1M", "15.00", "-", "15.00", "-", "-", "unconfirmed", "-"),
    ] == table.rows
    assert {"context", "$in", "$cached", "$out"} == table.numbers


def test_in_80_columns_the_longest_id_stands_with_context_prices_and_state():
    """What is given up is the least of it; a date to come is still told."""
    table = table_for(SHELF, width=80)
    assert ("id", "context", "$in", "$out", "state") == table.headings
    assert ["active", "retired", "to 12-31", "unconf."] == [row[-1] for row in table.rows]
    assert (LONGEST, "1M", "15.00", "15.00", "unconf.") == table.rows[-1]
    assert printed_width(table) <= 80


def test_between_the_two_columns_go_one_after_the_other():
    """As the window narrows: the cached price, the use, the quantization, the long state, the aliases."""
    seen = []
    for width in range(140, 60, -1):
        headings = table_for(SHELF, width=width).headings
        if headings not in seen:
            seen.append(headings)
    gone = [set(before) - set(after) for before, after in pairwise(seen)]
    assert [{"$cached"}, {"use"}, {"quant."}, {"aliases"}] == gone


def test_aliases_have_a_column_only_where_there_are_any():
    """Most services have none."""
    assert "aliases" not in table_for([RETIRED], width=200).headings


def test_a_table_without_models_is_its_head():
    """Filters may let nothing through."""
    table = table_for([], width=80)
    assert ([], "id") == (table.rows, table.headings[0])


def test_a_pipe_gets_everything_unrounded():
    """Ten columns, always, whatever the window."""
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
        ),
        ("old/one", "-", "-", "-", "-", "-", "retired", "-", "2026-03-06", "-"),
    ] == plain_rows([FULL, RETIRED])


def test_short_words_are_total():
    """And none is longer than the day of a retirement."""
    assert set(models.ModelState.values()) == set(SHORT_WORD_BY_STATE)
    assert max(map(len, SHORT_WORD_BY_STATE.values())) <= len("to 12-31")


def printed_width(table):
    columns = zip(table.headings, *table.rows, strict=True)
    return sum(max(map(len, column)) for column in columns) + 2 * (len(table.headings) - 1)


class Window(io.StringIO):
    """A terminal to write to."""

    def isatty(self):
        return True


class Service:
    """A client whose pages are put in beforehand."""

    def __init__(self, *pages):
        self.pages = pages
        self.asked = {}

    def model_pages(self, **filters):
        self.asked = filters
        return iter(self.pages)


def printed(service_, *words, out=None, monkeypatch=None, columns="80"):
    out, err = out or Window(), io.StringIO()
    monkeypatch.setenv("COLUMNS", columns)
    run(service_, parse(["models", *words], {}), Terminal(out, err, color=False))
    return re.sub(r"\x1b\[\d*m", "", out.getvalue()), err.getvalue()


def page_of(*listed, warnings=()):
    return service.ListModelsResponse(
        models=listed, warnings=[chat.Warning(message=text) for text in warnings], next_page_token="next"
    )


def test_a_terminal_of_80_columns_gets_a_table_that_fits(monkeypatch):
    """Without the retired, ids whole, numbers flush right."""
    text, _ = printed(Service(page_of(*SHELF)), monkeypatch=monkeypatch)
    lines = text.splitlines()
    assert 4 == len(lines)
    assert max(map(len, lines)) <= 80
    assert f"{LONGEST}       1M  15.00  15.00  unconf." == lines[3]
    assert lines[1].startswith("openai/gpt-oss-120b ")


def test_a_wide_terminal_gets_more(monkeypatch):
    """The same models with all that is known of them."""
    text, _ = printed(Service(page_of(*SHELF)), "--all", monkeypatch=monkeypatch, columns="140")
    assert "retired since 2026-03-06" in text
    assert "fast small" in text


def test_each_page_may_warn_and_each_warning_is_said_once(monkeypatch):
    """The note of a stale list comes with every page, that of a refused model with its own."""
    pages = page_of(FULL, warnings=["stale", "refused a"]), page_of(UNSURE, warnings=["stale", "refused b"])
    _, err = printed(Service(*pages), monkeypatch=monkeypatch)
    said = [line.rpartition("warning: ")[2] for line in err.splitlines() if "warning" in line]
    assert ["stale", "refused a", "refused b"] == said


def test_asking_for_retired_models_shows_them(monkeypatch):
    """`--state retired` would otherwise show nothing at all."""
    asked = Service(page_of(RETIRED))
    text, _ = printed(asked, "--state", "retired", monkeypatch=monkeypatch)
    assert models.MODEL_STATE_RETIRED == asked.asked["state"]
    assert "old/one" in text
