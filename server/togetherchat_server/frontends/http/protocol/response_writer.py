"""Encodes one response: status line, headers, and the body, chunked if necessary.

The head is buffered until the first piece of the body, so that both are sent in one write. ASGI allows
that, and a second write is a sixth of the cost of a small response.

A response without `content-length` is chunked. HTTP/1.0 has no chunks, so there such a response ends
when the connection closes (RFC 9112 6.1). Responses to HEAD, and with status 204 or 304, have no body.
"""

import re
from collections.abc import Iterable
from enum import Enum, auto
from http import HTTPStatus
from typing import Final, final

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_BODILESS: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
# Lines of a name and a value. Counting the lines detects a value that contains a line break.
_HEADERS: Final = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t\x20-\x7e\x80-\xff]*\r\n)*")


class ResponseProgress(Enum):
    """How much of a response has been sent."""

    NOTHING = auto()
    HEAD_BUFFERED = auto()
    """The application has sent the head; no byte of it has been written to the socket."""
    BODY = auto()
    COMPLETE = auto()


@final
class ResponseWriter:
    """Encodes one response."""

    __slots__ = (
        "_bodiless",
        "_chunked",
        "_head",
        "_left",
        "_length_counts",
        "http_version",
        "keep_alive",
        "progress",
        "status",
    )

    def __init__(self, *, method: str, http_version: str, keep_alive: bool) -> None:
        self.progress = ResponseProgress.NOTHING
        self.http_version: Final = http_version
        self.keep_alive = keep_alive and http_version == "1.1"
        """Whether the connection may serve another request after this response."""
        self.status = 0
        """The status; 0 until the response has started."""
        self._bodiless = method == "HEAD"
        self._chunked = False
        self._length_counts = False
        self._left = 0
        """Bytes of the declared `content-length` that have not been sent."""
        self._head = b""

    def start(self, status: int, headers: Iterable[tuple[bytes, bytes]], date: bytes) -> None:
        """Encode and buffer the head.

        Raises:
            RuntimeError: the response has started already, or a header cannot be sent.
        """
        if self.progress is not ResponseProgress.NOTHING:
            raise RuntimeError("the response has already started")
        lines: list[bytes] = []
        framed = closes = False
        for name, value in headers:
            match name.lower():
                case b"content-length":
                    framed = self._length_counts = True
                    self._left = int(value)
                case b"transfer-encoding":
                    continue  # In ASGI the server chooses the transfer coding.
                case b"connection" if b"close" in value.lower():
                    closes = True
                case _:
                    pass
            lines.append(b"%b: %b\r\n" % (name, value))
        block = b"".join(lines)
        if not _HEADERS.fullmatch(block) or block.count(b"\n") != len(lines):
            raise RuntimeError("a header has characters that cannot be sent")
        self.status = status
        self._bodiless = self._bodiless or status in _BODILESS
        if not (framed or self._bodiless):
            self._chunked = self.http_version == "1.1"
            self.keep_alive = self.keep_alive and self._chunked
            if self._chunked:
                block += b"transfer-encoding: chunked\r\n"
        self.keep_alive = self.keep_alive and not closes
        if not (self.keep_alive or closes):
            block += b"connection: close\r\n"
        line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
        self._head = b"%bdate: %b\r\n%b\r\n" % (line, date, block)
        self.progress = ResponseProgress.HEAD_BUFFERED

    def body(self, data: bytes, *, more: bool) -> bytes:
        """Return the bytes to write for a piece of the body; they may be empty.

        Raises:
            RuntimeError: the response has not started or is complete, or the body does not match its
                `content-length`.
        """
        if self.progress not in {ResponseProgress.HEAD_BUFFERED, ResponseProgress.BODY}:
            raise RuntimeError("the response has not started, or is complete")
        if self._length_counts and not self._bodiless:
            self._left -= len(data)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("the body is not as long as its content-length")
        self.progress = ResponseProgress.BODY if more else ResponseProgress.COMPLETE
        head, self._head = self._head, b""
        if self._bodiless:
            return head
        return head + (_chunks(data, more=more) if self._chunked else data)


def _chunks(data: bytes, *, more: bool) -> bytes:
    if not data:
        return b"" if more else b"0\r\n\r\n"
    return b"%x\r\n%b\r\n%b" % (len(data), data, b"" if more else b"0\r\n\r\n")
