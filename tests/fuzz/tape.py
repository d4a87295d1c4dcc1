"""Decisions out of a fuzzer's bytes, front to back. Past the end every decision is the first one,
so that any bytes are a valid input and a shorter one is a simpler one.
"""

from collections.abc import Sequence
from typing import TypeVar, final

T = TypeVar("T")


@final
class Tape:
    """Reads what a fuzzer wrote."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def ended(self) -> bool:
        return self._at >= len(self._data)

    def number(self, most: int) -> int:
        """From 0 to `most`, which is below 65,536: one byte where that suffices, else two."""
        return int.from_bytes(self.take(1 if most < 256 else 2), "big") % (most + 1)

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.number(len(choices) - 1)]

    def take(self, size: int) -> bytes:
        """The next `size` bytes, or what is left of them."""
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece

    def text(self) -> str:
        """A short text, in whatever characters its bytes make."""
        return self.take(self.number(255) % 24).decode("utf-8", "replace")

    def rest(self) -> bytes:
        return self.take(len(self._data))
