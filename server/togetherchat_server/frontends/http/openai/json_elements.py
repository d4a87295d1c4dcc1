"""Counts the elements of a JSON text without parsing it: the `{`, `[` and `,` outside of strings.

Only the functions of `bytes` touch each byte: a megabyte takes about 2 ms. The count is exact for valid
JSON. In invalid JSON it is exact up to the first error, where a parser stops.
"""

from collections.abc import Iterator
from typing import Final

SLICE_BYTES: Final = 64 * 2**10

_QUOTE: Final = b'"'
_BACKSLASH: Final = b"\\"
_UNCOUNTED: Final = bytes(byte for byte in range(256) if byte not in b'{[,"')


def json_elements(text: bytes) -> Iterator[int]:
    """Yield the number of elements in each slice of the text."""
    inside = 0
    """1 within a string, else 0."""
    escape = b""
    """A backslash at the end of a slice, which escapes the first byte of the next one."""
    for at in range(0, len(text), SLICE_BYTES):
        piece = escape + text[at : at + SLICE_BYTES]
        escape = b""
        if _BACKSLASH in piece:
            piece = piece.replace(_BACKSLASH * 2, b"")
            if piece.endswith(_BACKSLASH):
                piece, escape = piece[:-1], _BACKSLASH
            piece = piece.replace(_BACKSLASH + _QUOTE, b"")
        parts = piece.translate(None, _UNCOUNTED).split(_QUOTE)
        yield sum(map(len, parts[inside::2]))
        inside ^= (len(parts) - 1) & 1
