"""The page about models tells the truth: its tables are the catalogue's, its commands and snippets run."""

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
from togetherchat_server.telemetry.provider_limits import AGE, NAMES

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
    """The cells of the table under a header row, without the marks of code."""
    table = []
    for line in PAGE.split(header)[1].splitlines()[2:]:
        if not line.startswith("|"):
            break
        table.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return table


def snippets(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def lines_of(command):
    """The arguments of each line of the page that begins with this command."""
    lines = [line for snippet in snippets("sh") for line in snippet.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith(command + " ")]


async def run(*words, **environment):
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words,
        env={**os.environ, **environment}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def test_the_prices_are_the_catalogues(shipped):
    """Every model with a price that is not known to be retired, and no other."""

    def price(model, field):
        return f"{getattr(model.pricing, field):g}" if model.pricing.HasField(field) else ""

    meant = [
        [
            model.id,
            f"{model.context_length or ''}",
            *(price(model, field) for field in PRICES),
            model.quantization,
        ]
        for model in sorted(shipped.by_id.values(), key=lambda model: model.id.lower())
        if model.HasField("pricing") and not model.retirement_date
    ]
    assert meant == rows("| model | context | in | cached | out | quantization |")


def test_the_month_is_the_catalogues(shipped):
    """A page that says how old its data is must say it truly."""
    assert f"the newest is of {shipped.as_of}" in PAGE


def test_the_successors_are_the_catalogues(shipped):
    """All of them."""
    assert [list(pair) for pair in shipped.replacements.items()] == rows("| model | successor |")


def test_the_states_are_the_contracts():
    """Each value but the one that means none."""
    meant = [name.removeprefix("MODEL_STATE_") for name in models.ModelState.keys()[1:]]
    assert meant == [row[0] for row in rows("| state | when |")]


def test_the_gauges_are_the_codes():
    """Header by header, and the age."""
    assert [list(pair) for pair in NAMES.items()] == rows("| header | gauge |")
    assert f"`{AGE}`" in PAGE


def test_the_aliases_of_the_page_can_be_set(tmp_path, shipped):
    """By flags, by the file and by the variable, towards Together itself."""
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
    """Each line as printed, and each finds something."""
    lines = lines_of("togetherchat")
    async with running_app(sandbox_tokens_per_second=0) as app:
        target = {"TOGETHERCHAT_TARGET": app.addresses.grpc}
        ended = [await run("-m", "togetherchat_client.cli", *words, **target) for words in lines]
    assert 5 == len(ended)
    for words, (code, out, err) in zip(lines, ended, strict=True):
        assert (0, "") == (code, err), words
        assert out, words


async def test_the_python_snippet_of_the_page_runs():
    """It chooses a model, asks it, and prints what it cost."""
    (snippet,) = snippets("python")
    async with running_app(sandbox_tokens_per_second=0) as app:
        code, out, err = await run("-c", snippet.replace(ADDRESS, app.addresses.grpc))
    assert (0, "") == (code, err)
    assert re.fullmatch(r"\S+/\S+ \d\S* USD\n", out)
