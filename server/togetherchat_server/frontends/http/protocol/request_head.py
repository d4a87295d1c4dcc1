"""The head of one request: where it ends, what it says, and which heads are rejected.

llhttp parses heads and nothing else. Its input ends with the empty line that ends the head, so
the body and the requests behind it never reach it. Three faults cannot happen that way:

- llhttp stops at a head that offers an `Upgrade`, and would take the body for the next request.
  Here it stops where its input ends anyway, and the offer is ignored, as RFC 9110 7.8 allows.
- httptools reports trailers as headers (RFC 9110 6.5.1 forbids to merge them).
- The size of a head would depend on how its bytes were cut.

A head that llhttp accepts is rejected here where RFC 9112 demands it: 3.2 (one `Host`), 6.1 (no
transfer coding but `chunked`, and none in HTTP/1.0), and for any version but 1.0 and 1.1.
"""

import re
from http import HTTPStatus
from typing import Final, final
from urllib.parse import unquote

import httptools

from togetherchat_server.frontends.http.protocol.request_body import (
    BadRequestError,
    Body,
    ChunkedBody,
    SizedBody,
)

END: Final = b"\r\n\r\n"
NOT_HTTP: Final = "this is not HTTP/1.1"
TOO_LARGE: Final = "the headers are too large"
VERSIONS: Final = ("1.1", "1.0")

_CHECKED: Final = frozenset({b"content-length", b"expect", b"host", b"transfer-encoding"})
# The characters of RFC 3986's authority, without user information.
_HOST: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")


@final
class RequestHead:
    """A head as it comes. Its fields are set when `feed` has returned the bytes behind it."""

    __slots__ = (
        "_checked",
        "_completions",
        "_parser",
        "_room",
        "_tail",
        "_url",
        "body",
        "expects_continue",
        "headers",
        "http_version",
        "keep_alive",
        "method",
        "path",
        "query_string",
        "raw_path",
    )

    def __init__(self, *, bytes_max: int) -> None:
        self.method = ""
        self.http_version = ""
        self.path = ""
        self.raw_path = b""
        self.query_string = b""
        self.headers: list[tuple[bytes, bytes]] = []
        """Names are in lower case."""
        self.keep_alive = False
        self.expects_continue = False
        """Whether the client waits for `100 Continue` before it sends the body."""
        self.body: Body | None = None
        """Decodes the body; None where there is none."""
        self._room = bytes_max
        self._tail = b""
        self._url = b""
        self._checked: list[tuple[bytes, bytes]] = []
        self._completions = 0
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)

    def feed(self, data: bytes) -> bytes | None:
        """The bytes behind the head; None while it is incomplete.

        Raises:
            BadRequestError: the head is malformed, too large, or not allowed.
        """
        if not self._tail:
            data = self._without_blank_lines(data)
            if not data:
                return None
        end = self._end(data)
        if end < 0:
            self._parse(data, ends=False)
            self._tail = (self._tail + data[-3:])[-3:]
            return None
        self._parse(data[:end], ends=True)
        self._finish()
        return data[end:]

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        header = name.lower(), value
        self.headers.append(header)
        if header[0] in _CHECKED:
            self._checked.append(header)

    def on_headers_complete(self) -> None:
        self._completions += 1
        if self._parser is not None:
            self.keep_alive = self._parser.should_keep_alive()

    def on_body(self, _: bytes) -> None:
        """Not called as long as llhttp and `END` agree where a head ends: see `_parse`."""
        self._completions += 1

    def _without_blank_lines(self, data: bytes) -> bytes:
        """RFC 9112 2.2: clients may send an empty line before a request. It counts as part of the head."""
        rest = data.lstrip(b"\r\n")
        self._room -= len(data) - len(rest)
        if self._room < 0:
            raise BadRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, TOO_LARGE)
        return rest

    def _end(self, data: bytes) -> int:
        """Where the head ends in `data`; -1 if it does not."""
        if self._tail:
            at = (self._tail + data[:3]).find(END)
            if at >= 0:
                return at + len(END) - len(self._tail)
        at = data.find(END)
        return at + len(END) if at >= 0 else -1

    def _parse(self, piece: bytes, *, ends: bool) -> None:
        """Parse what fits. Where a head is both malformed and too large, the first byte at fault decides."""
        fits = len(piece) <= self._room
        if not fits:
            piece = piece[: self._room]
        self._room -= len(piece)
        parser = self._parser
        assert parser is not None  # noqa: S101  there is one until the head is complete
        try:
            parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            pass  # Raised at the end of the head: the offer is ignored.
        except httptools.HttpParserError as exc:
            raise BadRequestError(HTTPStatus.BAD_REQUEST, NOT_HTTP) from exc
        if b"\n" in piece:
            # The request line has come. One without a version is a whole request of HTTP/0.9.
            self.http_version = parser.get_http_version()
            if self.http_version not in VERSIONS:
                raise BadRequestError(HTTPStatus.BAD_REQUEST, NOT_HTTP)
        if not fits:
            raise BadRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, TOO_LARGE)
        if self._completions != int(ends):
            raise BadRequestError(HTTPStatus.BAD_REQUEST, NOT_HTTP)

    def _finish(self) -> None:
        parser, self._parser = self._parser, None  # They refer to each other.
        assert parser is not None  # noqa: S101
        self.method = parser.get_method().decode("ascii")
        self._read_target()
        self._check_headers()

    def _read_target(self) -> None:
        if self.method == "CONNECT":
            raise BadRequestError(HTTPStatus.BAD_REQUEST, "CONNECT is not supported")
        try:
            url = httptools.parse_url(self._url)
        except httptools.HttpParserInvalidURLError as exc:
            raise BadRequestError(HTTPStatus.BAD_REQUEST, "the request target is malformed") from exc
        self.raw_path = url.path or b"/"
        path = self.raw_path.decode("latin-1")
        self.path = unquote(path) if "%" in path else path
        self.query_string = url.query or b""

    def _check_headers(self) -> None:
        hosts: list[bytes] = []
        codings: list[bytes] = []
        for name, value in self._checked:
            if name == b"host":
                hosts.append(value)
            elif name == b"transfer-encoding":
                codings.append(value.lower())
            elif name == b"expect":
                self.expects_continue = self.http_version == "1.1" and value.lower() == b"100-continue"
            elif (length := int(value)) > 0:  # llhttp: digits alone, and once
                self.body = SizedBody(length)
        if len(hosts) > 1 or (not hosts and self.http_version == "1.1"):
            raise BadRequestError(HTTPStatus.BAD_REQUEST, "the request must have exactly one Host header")
        if hosts and not _HOST.fullmatch(hosts[0]):
            raise BadRequestError(HTTPStatus.BAD_REQUEST, "the Host header is malformed")
        if codings:
            # llhttp rejects `transfer-encoding` beside `content-length`.
            if codings != [b"chunked"] or self.http_version != "1.1" or self.body is not None:
                raise BadRequestError(HTTPStatus.BAD_REQUEST, "the only transfer coding supported is chunked")
            self.body = ChunkedBody()
