"""docs/models.md: its tables match the catalog, and its commands and snippets run."""

import asyncio
import os
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

from support.app import running_app
from togetherchat.v1 import models_pb2 as models
from togetherchat_server.config import read_configuration
from togetherchat_server.models.aliases import resolve_aliases
from togetherchat_server.models.catalog import Catalog, load_catalog
from togetherchat_server.telemetry.metrics.rate_limits import HEADERS

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
ADDRESS = "localhost:50051"
KEY = {"TOGETHER_API_KEY": "tgp_v1_none"}
PRICES = (
    "input_usd_per_million_tokens",
    "cached_input_usd_per_million_tokens",
    "output_usd_per_million_tokens",
)


@pytest.fixture(scope="module")
def shipped() -> Catalog:
    return load_catalog(None)


def rows(header):
    """Return the cells of the table under a header row, without the backticks."""
    table = []
    for line in PAGE.split(header)[1].splitlines()[2:]:
        if not line.startswith("|"):
            break
        table.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return table


def snippets(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def lines_of(command):
    """Return the arguments of each line of the page that begins with this command."""
    lines = [line for snippet in snippets("sh") for line in snippet.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith(command + " ")]


async def run(*arguments, **environment):
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments,
        env={**os.environ, **environment}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def test_the_prices_are_those_of_the_catalog(shipped):
    """The table has every model with a price and without a retirement date, and no other."""

    def price(model, field):
        return f"{getattr(model.pricing, field):g}" if model.pricing.HasField(field) else ""

    expected = [
        [
            model.id,
            f"{model.context_length or ''}",
            *(price(model, field) for field in PRICES),
            model.quantization,
        ]
        for model in sorted(shipped.by_id.values(), key=lambda model: model.id.lower())
        if model.HasField("pricing") and not model.retirement_date
    ]
    assert expected == rows("| model | context | in | cached | out | quantization |")


def test_the_month_is_that_of_the_catalog(shipped):
    """The page names the age of its data."""
    assert f"the newest is of {shipped.as_of}" in PAGE


def test_the_successors_are_those_of_the_catalog(shipped):
    """The table has all of them."""
    assert [list(pair) for pair in shipped.replacements.items()] == rows("| model | successor |")


def test_the_states_are_those_of_the_contract():
    """The table has every value but UNSPECIFIED."""
    expected = [name.removeprefix("MODEL_STATE_") for name in models.ModelState.keys()[1:]]
    assert expected == [row[0] for row in rows("| state | when |")]


def test_the_rate_limits_are_those_of_the_code():
    """The table has every header, with the value of the label."""
    table = rows("| header | `limit` |")
    assert {(header, header.removeprefix("x-")) for header in HEADERS} == {tuple(row) for row in table}


def test_the_aliases_of_the_page_can_be_set(tmp_path, shipped):
    """By flags, by the file and by the variable, with Together as the provider."""
    (flags,) = lines_of("togetherchat-server")
    (table,) = snippets("toml")
    (variable,) = re.findall(r"`TOGETHERCHAT_ALIAS=(.*?)`", PAGE)
    file = tmp_path / "settings.toml"
    file.write_text(table)

    by_flag = resolve_aliases(read_configuration(flags, KEY), shipped).aliases
    by_variable = resolve_aliases(
        read_configuration([], {**KEY, "TOGETHERCHAT_ALIAS": variable}), shipped
    ).aliases
    by_file = resolve_aliases(read_configuration(["--config", str(file)], KEY), shipped).aliases

    assert {"fast": "openai/gpt-oss-120b", "best": "moonshotai/Kimi-K3"} == by_flag == by_variable
    assert set(tomllib.loads(table)["alias"]) == set(by_file)
    assert {"openai/gpt-oss-120b", "moonshotai/Kimi-K3"} == set(by_file.values())


async def test_the_commands_of_the_page_list_models():
    """Each line runs as printed, and lists at least one model."""
    lines = lines_of("togetherchat")
    async with running_app(sandbox_tokens_per_second=0) as app:
        target = {"TOGETHERCHAT_TARGET": app.addresses.grpc}
        ended = [await run("-m", "togetherchat_client.cli", *arguments, **target) for arguments in lines]
    assert 6 == len(ended)
    for arguments, (code, out, err) in zip(lines, ended, strict=True):
        assert (0, "") == (code, err), arguments
        assert out, arguments


async def test_the_python_snippet_of_the_page_runs():
    """It chooses a model, requests a completion, and prints the cost."""
    (snippet,) = snippets("python")
    async with running_app(sandbox_tokens_per_second=0) as app:
        code, out, err = await run("-c", snippet.replace(ADDRESS, app.addresses.grpc))
    assert (0, "") == (code, err)
    assert re.fullmatch(r"\S+/\S+ \d\S* USD\n", out)
