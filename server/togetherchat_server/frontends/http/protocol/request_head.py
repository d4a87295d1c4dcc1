"""Parser of a request head: finds its end, parses its fields, and rejects invalid heads.

llhttp parses heads only. Its input ends with the empty line that ends the head, so it never gets the
body or further requests. This prevents three faults:

- llhttp stops after a head with an `Upgrade`, and would parse the body as the next request. Here its
  input ends there anyway, and the upgrade is ignored, as RFC 9110 7.8 allows.
- httptools reports trailers as headers, which RFC 9110 6.5.1 forbids.
- The measured size of a head would depend on how its bytes were split into reads.

RFC 9112 requires more than llhttp checks: exactly one `Host` (3.2), and no transfer coding except
`chunked`, which HTTP/1.0 does not have (6.1). Versions other than 1.0 and 1.1 are rejected too.
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
    """An incrementally parsed head. Its fields are set once `feed` has returned the bytes after it."""

    __slots__ = (
        "_bytes_left",
        "_checked",
        "_completions",
        "_parser",
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
        """The decoder of the body; None if the request has no body."""
        self._bytes_left = bytes_max
        self._tail = b""
        self._url = b""
        self._checked: list[tuple[bytes, bytes]] = []
        self._completions = 0
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)

    def feed(self, data: bytes) -> bytes | None:
        """Return the bytes after the head; None while the head is incomplete.

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
        """Mark the head as invalid: llhttp and `END` disagree about its end. See `_parse`."""
        self._completions += 1

    def _without_blank_lines(self, data: bytes) -> bytes:
        """Remove empty lines before a request (RFC 9112 2.2). They count towards the size of the head."""
        rest = data.lstrip(b"\r\n")
        self._bytes_left -= len(data) - len(rest)
        if self._bytes_left < 0:
            raise BadRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, TOO_LARGE)
        return rest

    def _end(self, data: bytes) -> int:
        """Return the index in `data` at which the head ends; -1 if it does not end there."""
        if self._tail:
            at = (self._tail + data[:3]).find(END)
            if at >= 0:
                return at + len(END) - len(self._tail)
        at = data.find(END)
        return at + len(END) if at >= 0 else -1

    def _parse(self, piece: bytes, *, ends: bool) -> None:
        """Parse up to the size limit. The first offending byte decides: malformed, or too large."""
        fits = len(piece) <= self._bytes_left
        if not fits:
            piece = piece[: self._bytes_left]
        self._bytes_left -= len(piece)
        parser = self._parser
        assert parser is not None  # noqa: S101  set until the head is complete
        try:
            parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            pass  # Raised at the end of the head. The upgrade is ignored.
        except httptools.HttpParserError as exc:
            raise BadRequestError(HTTPStatus.BAD_REQUEST, NOT_HTTP) from exc
        if b"\n" in piece:
            # The request line is complete. Without a version it is a complete request of HTTP/0.9.
            self.http_version = parser.get_http_version()
            if self.http_version not in VERSIONS:
                raise BadRequestError(HTTPStatus.BAD_REQUEST, NOT_HTTP)
        if not fits:
            raise BadRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, TOO_LARGE)
        if self._completions != int(ends):
            raise BadRequestError(HTTPStatus.BAD_REQUEST, NOT_HTTP)

    def _finish(self) -> None:
        parser, self._parser = self._parser, None  # Breaks a reference cycle.
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
            elif (length := int(value)) > 0:  # llhttp ensures: digits only, sent once
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
