"""Reads decisions from a fuzzer's bytes, front to back.

Past the end every decision is the first one, so that any bytes are a valid input and a shorter input
is a simpler one.
"""

from collections.abc import Sequence
from typing import TypeVar, final

T = TypeVar("T")


@final
class Tape:
    """A sequence of decisions."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def ended(self) -> bool:
        return self._position >= len(self._data)

    def number(self, maximum: int) -> int:
        """A number from 0 to `maximum`, which is below 65,536: from one byte if that suffices, else two."""
        return int.from_bytes(self.read(1 if maximum < 256 else 2), "big") % (maximum + 1)

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.number(len(choices) - 1)]

    def read(self, size: int) -> bytes:
        """The next `size` bytes, or fewer at the end."""
        data = self._data[self._position : self._position + size]
        self._position += size
        return data

    def text(self) -> str:
        """A short text, decoded from the next bytes."""
        return self.read(self.number(255) % 24).decode("utf-8", "replace")

    def rest(self) -> bytes:
        return self.read(len(self._data))
