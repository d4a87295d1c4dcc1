"""Decoders of a request body: which bytes belong to the body, and where it ends.

A decoder takes received bytes. It returns the bytes of the body and, unparsed, the bytes after it.

Chunk sizes are hexadecimal digits, lines end with CRLF, and nothing else is accepted (RFC 9112 7.1). A
proxy that parsed a line differently would see another request (request smuggling). Chunk extensions and
trailers are bounded, validated and dropped. Trailers never become headers.
"""

import re
from enum import Enum, auto
from http import HTTPStatus
from typing import Final, Protocol, final

CHUNK_LINE_BYTES_MAX: Final = 1024
"""Limit of a chunk's first line: its size and its extensions."""
TRAILER_BYTES_MAX: Final = 8 * 2**10
"""Limit of all trailers together."""
MALFORMED: Final = "the chunked body is malformed"
TRAILERS_TOO_LARGE: Final = f"the trailers are larger than {TRAILER_BYTES_MAX} bytes"

_CRLF: Final = b"\r\n"
# At most 15 digits: no 64-bit parser reads such a size differently.
_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_TRAILER: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n")


class BadRequestError(Exception):
    """The bytes are not a valid HTTP request. `status` is the status of the response."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Body(Protocol):
    """Decodes one body."""

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Return the body's bytes in `data`, and the bytes after the body; None while it is incomplete.

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
    """The next part of a chunked body."""

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
        """Bytes of the current chunk that have not been received."""
        self._line = b""
        """The received part of an incomplete line."""
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
                at = _complete_chunks(data, at, pieces)
            line_end = data.find(b"\n", at) + 1 or end
            self._line += data[at:line_end]
            at = line_end
            self._read_line()
        return b"".join(pieces), data[at:] if self._next is _Part.NOTHING else None

    def _read_line(self) -> None:
        """Parse the line if it is complete; else check its beginning."""
        line = self._line
        if self._next is _Part.SIZE:
            self._read_size(line)
        elif self._next is _Part.DATA_END:
            if not _CRLF.startswith(line):
                raise BadRequestError(HTTPStatus.BAD_REQUEST, MALFORMED)
            if line == _CRLF:
                self._expect(_Part.SIZE)
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
        self._expect(_Part.DATA if self._left else _Part.TRAILER)

    def _read_trailer(self, line: bytes) -> None:
        complete = line.endswith(b"\n")
        if line == _CRLF:
            self._expect(_Part.NOTHING)
        elif line != b"\r" and self._trailer_bytes + len(line) > TRAILER_BYTES_MAX:
            raise BadRequestError(HTTPStatus.BAD_REQUEST, TRAILERS_TOO_LARGE)
        elif complete and not _TRAILER.fullmatch(line):
            raise BadRequestError(HTTPStatus.BAD_REQUEST, MALFORMED)
        elif complete:
            self._trailer_bytes += len(line)
            self._expect(_Part.TRAILER)

    def _expect(self, part: _Part) -> None:
        self._next = part
        self._line = b""


def _complete_chunks(data: bytes, at: int, pieces: list[bytes]) -> int:
    """Decode the complete chunks, and return the index of the first byte after them.

    Most chunks arrive complete. Decoding a chunk in parts costs three times as much, and a client may
    send chunks of one byte.
    """
    while (found := _SIZE_LINE.match(data, at)) is not None:
        begin = found.end()
        end = begin + int(found[1], 16)
        if end == begin or data[end : end + 2] != _CRLF or begin - at > CHUNK_LINE_BYTES_MAX:
            break
        pieces.append(data[begin:end])
        at = end + 2
    return at
