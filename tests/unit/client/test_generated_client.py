"""The blocking client is derived from the asyncio one, and only derived."""

import importlib.util
import inspect
from pathlib import Path

import pytest

from togetherchat_client import (
    AsyncClient,
    AsyncCompletionStream,
    Client,
    CompletionStream,
    connect,
    connect_async,
)

SCRIPT = Path(__file__).parents[3] / "clients" / "python" / "generate_sync.py"


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("generate_sync", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_committed_is_what_the_script_gives(generator):
    """Nobody mended the copy by hand, and nobody forgot to run the script."""
    committed = {path.name: path.read_text(encoding="utf-8") for path in generator.TARGET.glob("*.py")}
    assert generator.generate(generator.read_sources()) == committed


def test_a_rule_that_matches_nothing_fails(generator):
    """A rule that the source has outgrown would rot in silence."""
    with pytest.raises(generator.StaleRuleError):
        generator.generate({"empty.py": ""})


def test_nothing_of_asyncio_is_left(generator):
    """A word that no rule knew would break the blocking client at run time only."""
    generated = "".join(generator.generate(generator.read_sources()).values())
    left = [word for word in ("async ", "await ", "asyncio", ".aio", "Async") if word in generated]
    assert [] == left


def public(thing) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in inspect.getmembers(thing, callable)
        if not name.startswith("_")
    }


@pytest.mark.parametrize(("one", "other"), [(AsyncClient, Client), (AsyncCompletionStream, CompletionStream)])
def test_both_clients_have_the_same_methods_and_arguments(one, other):
    """Changing between them is changing one word."""

    def arguments(thing):
        return {name: signature.parameters for name, signature in public(thing).items()}

    assert arguments(one) == arguments(other)


def test_both_connects_take_the_same_arguments():
    """They differ in what they give."""
    assert inspect.signature(connect).parameters == inspect.signature(connect_async).parameters
