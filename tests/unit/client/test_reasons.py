"""The clients' lists of reasons and the README's table are generated from the service's table."""

import importlib.util
from pathlib import Path

import pytest

from togetherchat_client import ErrorReason
from togetherchat_server.domain.reasons import Reason

ROOT = Path(__file__).parents[3]


def load():
    spec = importlib.util.spec_from_file_location("generate_reasons", ROOT / "clients" / "reasons.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = load()


@pytest.mark.parametrize("path", GENERATOR.FILES, ids=lambda path: path.name)
def test_a_list_of_reasons_is_the_generated_one(path):
    """`make generate` was run after the last change of the table, and no list was edited by hand."""
    assert GENERATOR.generate()[path] == path.read_text(encoding="utf-8")


def test_every_reason_has_a_meaning():
    """It is one sentence, on one line, and short enough for a comment of every client."""
    meanings = GENERATOR.meanings()

    assert list(Reason) == list(meanings)
    assert [] == [text for text in meanings.values() if not (text.endswith(".") and len(text) <= 100)]


def test_a_reason_of_the_client_equals_the_string_that_the_service_sends():
    """A caller compares `error.reason`, which is a string, with a member."""
    assert [reason.value for reason in Reason] == list(ErrorReason)
