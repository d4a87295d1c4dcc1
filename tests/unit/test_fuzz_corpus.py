"""Every input that the fuzzer was worth keeping, through the same targets, without the fuzzer.

`make fuzz` looks for more.
"""

import importlib
from pathlib import Path

import pytest

from fuzz.targets import TARGETS

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
CORPUS_BYTES_MAX = 300_000


def inputs(target: str) -> list[Path]:
    return sorted((CORPUS / target).iterdir())


@pytest.mark.parametrize("target", TARGETS)
def test_every_kept_input_is_harmless(target: str):
    """A target raises nothing, whatever it is fed."""
    run = importlib.import_module(f"fuzz.targets.{target}").target
    assert inputs(target)

    for path in inputs(target):
        try:
            run(path.read_bytes())
        except Exception as exc:
            exc.add_note(f"the input is {path}")
            raise


def test_the_corpus_is_small():
    """It is kept in the repository, so it is a choice and no heap."""
    assert CORPUS_BYTES_MAX >= sum(path.stat().st_size for target in TARGETS for path in inputs(target))
    assert set(TARGETS) == {folder.name for folder in CORPUS.iterdir()}
