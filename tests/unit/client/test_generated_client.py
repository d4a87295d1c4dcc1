"""Tests that the sync client is generated from the async client."""

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


def test_the_committed_sync_client_is_the_generated_one(generator):
    """The generated files were not edited by hand, and the script was run after the last change."""
    committed = {path.name: path.read_text(encoding="utf-8") for path in generator.TARGET.glob("*.py")}
    assert generator.generate(generator.read_sources()) == committed


def test_a_rule_that_matches_nothing_fails(generator):
    """A stale rule raises StaleRuleError."""
    with pytest.raises(generator.StaleRuleError):
        generator.generate({"empty.py": ""})


def test_the_sync_client_has_no_asyncio(generator):
    """Async code without a rule would fail at run time only."""
    generated = "".join(generator.generate(generator.read_sources()).values())
    found = [word for word in ("async ", "await ", "asyncio", ".aio", "Async") if word in generated]
    assert [] == found


def public(thing) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in inspect.getmembers(thing, callable)
        if not name.startswith("_")
    }


@pytest.mark.parametrize(("one", "other"), [(AsyncClient, Client), (AsyncCompletionStream, CompletionStream)])
def test_both_clients_have_the_same_methods_and_arguments(one, other):
    """A caller switches between the clients without changing arguments."""

    def arguments(thing):
        return {name: signature.parameters for name, signature in public(thing).items()}

    assert arguments(one) == arguments(other)


def test_both_connect_functions_take_the_same_arguments():
    """`connect` and `connect_async` differ in the returned client only."""
    assert inspect.signature(connect).parameters == inspect.signature(connect_async).parameters
