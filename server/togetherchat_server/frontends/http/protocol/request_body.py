"""The body of one request: which bytes belong to it, and where it ends.

A decoder is fed what came and returns the body's bytes and whatever follows the body. What
follows is never looked at here.

Chunk sizes are hexadecimal digits, lines end with CRLF, and nothing else is accepted (RFC 9112
7.1): a peer in front of this service that reads a line differently would see another request.
Chunk extensions and trailers are bounded, checked for their form and dropped. Trailers never
become headers.
"""

import re
from enum import Enum, auto
from http import HTTPStatus
from typing import Final, Protocol, final

CHUNK_LINE_BYTES_MAX: Final = 1024
"""The line of a chunk: its size and its extensions."""
TRAILER_BYTES_MAX: Final = 8 * 2**10
"""All trailers together."""
MALFORMED: Final = "the chunked body is malformed"
TRAILERS_TOO_LARGE: Final = f"the trailers are larger than {TRAILER_BYTES_MAX} bytes"

_CRLF: Final = b"\r\n"
# 15 digits: a size that no 64-bit reader reads differently.
_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_TRAILER: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n")


class BadRequestError(Exception):
    """The bytes of a request are not what HTTP allows."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Body(Protocol):
    """Decodes one body."""

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """The body's bytes in `data`, and what follows the body; None while it goes on.

        Raises:
            BadRequestError: the body is malformed.
        """
        ...


@final
class SizedBody:
    """A body with a `content-length`."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        left = self._left
        if len(data) < left:
            self._left = left - len(data)
            return data, None
        self._left = 0
        return data[:left], data[left:]


class _Part(Enum):
    """What comes next in a chunked body."""

    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()
    NOTHING = auto()


@final
class ChunkedBody:
    """A body with `transfer-encoding: chunked`."""

    __slots__ = ("_left", "_line", "_next", "_trailer_bytes")

    def __init__(self) -> None:
        self._next = _Part.SIZE
        self._left = 0
        """Bytes of the current chunk that have not come."""
        self._line = b""
        """The beginning of a line whose end has not come."""
        self._trailer_bytes = 0

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        pieces: list[bytes] = []
        at, end = 0, len(data)
        while at < end and self._next is not _Part.NOTHING:
            if self._next is _Part.DATA:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._next = _Part.DATA_END
                continue
            if self._next is _Part.SIZE and not self._line:
                at = _whole_chunks(data, at, pieces)
            line_end = data.find(b"\n", at) + 1 or end
            self._line += data[at:line_end]
            at = line_end
            self._read_line()
        return b"".join(pieces), data[at:] if self._next is _Part.NOTHING else None

    def _read_line(self) -> None:
        """Read the line, or check what has come of it."""
        line = self._line
        if self._next is _Part.SIZE:
            self._read_size(line)
        elif self._next is _Part.DATA_END:
            if not _CRLF.startswith(line):
                raise BadRequestError(HTTPStatus.BAD_REQUEST, MALFORMED)
            if line == _CRLF:
                self._turn_to(_Part.SIZE)
        else:
            self._read_trailer(line)

    def _read_size(self, line: bytes) -> None:
        if len(line) > CHUNK_LINE_BYTES_MAX:
            raise BadRequestError(HTTPStatus.BAD_REQUEST, MALFORMED)
        if not line.endswith(b"\n"):
            return
        found = _SIZE_LINE.fullmatch(line)
        if found is None:
            raise BadRequestError(HTTPStatus.BAD_REQUEST, MALFORMED)
        self._left = int(found[1], 16)
        self._turn_to(_Part.DATA if self._left else _Part.TRAILER)

    def _read_trailer(self, line: bytes) -> None:
        whole = line.endswith(b"\n")
        if line == _CRLF:
            self._turn_to(_Part.NOTHING)
        elif line != b"\r" and self._trailer_bytes + len(line) > TRAILER_BYTES_MAX:
            raise BadRequestError(HTTPStatus.BAD_REQUEST, TRAILERS_TOO_LARGE)
        elif whole and not _TRAILER.fullmatch(line):
            raise BadRequestError(HTTPStatus.BAD_REQUEST, MALFORMED)
        elif whole:
            self._trailer_bytes += len(line)
            self._turn_to(_Part.TRAILER)

    def _turn_to(self, part: _Part) -> None:
        self._next = part
        self._line = b""


def _whole_chunks(data: bytes, at: int, pieces: list[bytes]) -> int:
    """Read the chunks that have come whole, and return where the rest begins.

    Most chunks do. The parts of one cost three times as much, and a caller may send chunks of one byte.
    """
    while (found := _SIZE_LINE.match(data, at)) is not None:
        begin = found.end()
        end = begin + int(found[1], 16)
        if end == begin or data[end : end + 2] != _CRLF or begin - at > CHUNK_LINE_BYTES_MAX:
            break
        pieces.append(data[begin:end])
        at = end + 2
    return at
