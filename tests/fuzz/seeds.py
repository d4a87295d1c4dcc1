"""The first inputs of each target: the golden cases, in the format that the target reads."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from fuzz.targets import answers
from support import golden

NO_CUTS: Final = b"\0\0"
SEED_BYTES_MAX: Final = 8192
"""Longer cases add no coverage to shorter ones."""


def _decoder() -> Iterator[bytes]:
    for case in golden.cases("stream"):
        yield NO_CUTS + golden.upstream(case)
        yield b"\0\2\x10\x00\x7f\x01" + golden.upstream(case)
        yield b"\2\1\x00\x11" + golden.upstream(case)


def _answers() -> Iterator[bytes]:
    for subject in ("response", "models"):
        for case in golden.cases(subject):
            yield b"\0\1" + golden.upstream(case)
    for case in golden.cases("error"):
        case_response = json.loads((case / "response.json").read_text("utf-8"))
        status = (
            answers.STATUSES.index(case_response["status"])
            if case_response["status"] in answers.STATUSES
            else 0
        )
        head = "".join(f"{name}: {value}\n" for name, value in case_response["headers"].items())
        for body in (golden.upstream(case), _with_key(golden.upstream(case))):
            yield bytes([status, 0]) + head.encode() + b"\0" + body
    for case in golden.cases("stream"):
        for event in golden.upstream(case).splitlines():
            if event.startswith(b"data: {"):
                yield b"\0\2" + event.removeprefix(b"data: ")


def _with_key(body: bytes) -> bytes:
    """The body of a provider that repeats the key in every text."""
    return body.replace(b'": "', b'": "' + answers.CANARY.encode() + b" ")


def _streams() -> Iterator[bytes]:
    """Decisions have no golden cases: a few byte strings, short and long."""
    for size in (0, 16, 64, 256):
        yield bytes((position * 37 + size) % 256 for position in range(size))


def _caller() -> Iterator[bytes]:
    for case in golden.cases("request"):
        for switches in (b"\0", b"\1", b"\2"):
            yield switches + golden.request(case).SerializeToString(deterministic=True)


SEEDS: Final[Mapping[str, Callable[[], Iterator[bytes]]]] = {
    "decoder": _decoder,
    "answers": _answers,
    "streams": _streams,
    "caller": _caller,
}


def seeds(target: str) -> list[bytes]:
    """Every input once."""
    return [seed for seed in dict.fromkeys(SEEDS[target]()) if len(seed) <= SEED_BYTES_MAX]
