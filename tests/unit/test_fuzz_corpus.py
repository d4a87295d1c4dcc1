"""Every input that the fuzzer was worth keeping, through the same targets, without the fuzzer.

`make fuzz` looks for more.
"""

import importlib
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzz.mutators import MUTATORS
from fuzz.seeds import seeds
from fuzz.targets import TARGETS
from fuzz.words import dictionary, words
from togetherchat.v1 import chat_service_pb2 as service

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
CORPUS_BYTES_MAX = 300_000


def target_of(name: str) -> Callable[[bytes], None]:
    return importlib.import_module(f"fuzz.targets.{name}").target


def kept(target: str) -> list[Path]:
    return sorted((CORPUS / target).iterdir())


def failing(target: str) -> list[str]:
    """The inputs at which a target raises, those of the seeds by number; the first is enough."""
    run = target_of(target)
    inputs = {path.name: path.read_bytes() for path in kept(target)}
    inputs |= {f"seed {number}": seed for number, seed in enumerate(seeds(target))}
    for name, data in inputs.items():
        try:
            run(data)
        except Exception as exc:  # noqa: BLE001  whatever a target raises is a finding
            return [f"{name}: {exc!r}"]
    return []


@pytest.mark.parametrize("target", TARGETS)
def test_every_input_is_harmless(target: str):
    """A target raises nothing, whatever it is fed: what was kept, and the golden cases as it begins with."""
    assert kept(target)
    assert seeds(target)

    assert [] == failing(target)


def test_the_corpus_is_small():
    """It is kept in the repository, so it is a choice and no heap."""
    assert CORPUS_BYTES_MAX >= sum(path.stat().st_size for target in TARGETS for path in kept(target))
    assert set(TARGETS) == {folder.name for folder in CORPUS.iterdir()}


class SplitsAtEveryRead:
    """A decoder that takes the end of a read for the end of a line."""

    def __init__(self, decoder: type, *, max_event_bytes: int) -> None:
        self._decoder = decoder(max_event_bytes=max_event_bytes)

    def feed(self, data: bytes) -> list[object]:
        return self._decoder.feed(data + b"\n")

    def __getattr__(self, name: str) -> object:
        return getattr(self._decoder, name)


FAILURES = "togetherchat_server.providers.together.errors"
ANSWER = "togetherchat_server.providers.together.response_parts"
DEFECTS = [
    pytest.param(
        "decoder", "fuzz.targets.decoder.SseDecoder", lambda real: lambda **to: SplitsAtEveryRead(real, **to),
        id="decoder: reads are lines",
    ),
    pytest.param("answers", f"{FAILURES}._masked", lambda _: lambda text, _: text, id="answers: keys are shown"),
    pytest.param("streams", f"{ANSWER}.role", lambda _: lambda _raw: 0, id="streams: nobody has a role"),
    pytest.param(
        "streams", f"{ANSWER}.reasoning", lambda _: lambda _message: ("", ""), id="streams: thoughts are lost"
    ),
    pytest.param(
        "caller", "fuzz.targets.caller.validate", lambda _: lambda _request, _limits: None,
        id="caller: nothing is checked",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("target", "place", "defect"), DEFECTS)
def test_a_defect_is_found(monkeypatch, target: str, place: str, defect):
    """With a fault put in, some input fails: the targets do look."""
    module, _, name = place.rpartition(".")
    monkeypatch.setattr(place, defect(getattr(importlib.import_module(module), name)))

    assert failing(target)


@pytest.mark.parametrize("target", MUTATORS)
def test_a_mutator_keeps_the_form(target: str):
    """It changes seeds into inputs that can be changed again."""
    dice = random.Random(3)
    pool = seeds(target)

    for _ in range(300):
        changed = MUTATORS[target](dice.choice(pool), dice, lambda data, _most: data + b"x")
        if changed is not None:
            pool.append(changed)

    assert len(set(pool)) > 200
    if target == "caller":
        assert all(service.CompleteRequest.FromString(changed[1:]).ListFields() for changed in pool)


def test_every_word_is_in_the_dictionary():
    """As libFuzzer reads it: a quoted word a line, bytes in hexadecimal."""
    lines = dictionary().splitlines()

    assert words() == [bytes.fromhex(line.strip('"').replace("\\x", "")) for line in lines]
