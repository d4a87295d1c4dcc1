"""Asks the upstream: the one place that sends a key, and that turns what breaks into a `ServiceError`.

Owns the headers, the bounds on what comes back and the table of failures. Knows no JSON, no
events and no status: a status of 500 is an answer here. Never sends a request twice (but see
`engine`, for a connection that had run out), never follows a redirect. It measures no time
beyond that of connecting: whoever asks does so under `asyncio.timeout`. A cancel closes the
connection at once, in whatever phase it comes.

What is asked for is not compressed, and what comes compressed is refused unread: 194 KB of gzip
cost a client that unpacks it 190 MB.

It calls an `httpx.AsyncBaseTransport` itself, without `httpx.AsyncClient`, which doubled the
CPU of a request (`bench/transports.py`), and prepares once what is the same in every request.
"""

import asyncio
import functools
import re
import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Self, final

import httpx

from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.upstream import tls_sessions
from togetherchat_server.upstream.limits import UpstreamLimits
from togetherchat_server.upstream.pool import ConnectionPool

PATHS_MAX: Final = 16
CAUSES_MAX: Final = 8

_TRACEPARENT: Final = re.compile(r"[\da-f]{2}-[\da-f]{32}-[\da-f]{16}-[\da-f]{2}")
_UNCODED: Final = frozenset({"", "identity"})

ReasonTable = tuple[tuple[type[BaseException], Reason], ...]

# Tables are read from the top: the first that fits.
# Of a failure before the answer, what is beneath it says more than it does itself.
_CAUSES: Final[ReasonTable] = (
    (socket.gaierror, Reason.UPSTREAM_DNS_FAILED),
    (ssl.SSLError, Reason.UPSTREAM_TLS_FAILED),
)
_BEFORE_ANSWER: Final[ReasonTable] = (
    (httpx.PoolTimeout, Reason.OVERLOADED),
    (httpx.ConnectTimeout, Reason.UPSTREAM_CONNECT_TIMEOUT),
    (httpx.ConnectError, Reason.UPSTREAM_CONNECT_FAILED),
    (httpx.ProxyError, Reason.UPSTREAM_CONNECT_FAILED),
    (httpx.RemoteProtocolError, Reason.UPSTREAM_MALFORMED_RESPONSE),
    (httpx.LocalProtocolError, Reason.INTERNAL_ERROR),
    (httpx.UnsupportedProtocol, Reason.INTERNAL_ERROR),
    (httpx.RequestError, Reason.UPSTREAM_RESET),
)
_IN_ANSWER: Final[ReasonTable] = (
    (httpx.DecodingError, Reason.UPSTREAM_MALFORMED_RESPONSE),
    (httpx.RequestError, Reason.UPSTREAM_TRUNCATED),
)
_MESSAGES: Final[Mapping[Reason, str]] = {
    Reason.OVERLOADED: "every connection to the provider is in use",
    Reason.UPSTREAM_DNS_FAILED: "the provider's name could not be resolved",
    Reason.UPSTREAM_TLS_FAILED: "no trusted connection to the provider could be made",
    Reason.UPSTREAM_CONNECT_TIMEOUT: "the provider could not be reached in time",
    Reason.UPSTREAM_CONNECT_FAILED: "the provider could not be reached",
    Reason.UPSTREAM_MALFORMED_RESPONSE: "the provider's answer could not be read",
    Reason.UPSTREAM_RESET: "the connection to the provider broke before it answered",
    Reason.UPSTREAM_TRUNCATED: "the provider's answer was cut short",
    Reason.UPSTREAM_TOO_LARGE: "the provider's answer is larger than this service accepts",
    Reason.INTERNAL_ERROR: "the request to the provider could not be made",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamResponse:
    """A whole answer. Names of headers are in lower case; one that came twice is joined by commas."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@final
class UpstreamStream:
    """An answer as it arrives. Its status and headers are there; its body is read once, in order."""

    def __init__(self, response: httpx.Response, *, bytes_max: int) -> None:
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = _lower_case(response.headers.raw)
        self._body = aiter(_body(response))
        self._bytes_left = bytes_max

    async def read(self) -> bytes:
        """All that has arrived since, at least one byte; `b""` at the answer's proper end.

        Raises:
            ServiceError: UPSTREAM_TRUNCATED, UPSTREAM_MALFORMED_RESPONSE, or UPSTREAM_TOO_LARGE
                where it comes to more than a stream may.
        """
        try:
            piece = await self._body.__anext__()
        except StopAsyncIteration:
            return b""
        except httpx.RequestError as exc:
            raise _error(_first(_IN_ANSWER, exc)) from exc
        self._bytes_left -= len(piece)
        if self._bytes_left < 0:
            raise _error(Reason.UPSTREAM_TOO_LARGE)
        return piece

    async def read_all(self, bytes_max: int) -> bytes:
        """What is left, in one piece.

        Where the status says that the call failed, it matters more than the text: what exceeds
        the bound, or is missing because the connection broke, is then left out.

        Raises:
            ServiceError: where the status is below 400, as `read` does.
        """
        pieces: list[bytes] = []
        left = bytes_max
        try:
            while piece := await self.read():
                pieces.append(piece[:left])
                left -= len(piece)
                if left < 0:
                    raise _error(Reason.UPSTREAM_TOO_LARGE)
        except ServiceError:
            if self.status < httpx.codes.BAD_REQUEST:
                raise
        return b"".join(pieces)

    async def finish(self, within_s: float) -> None:
        """Wait a moment for the end, so that the connection can be used again.

        For after the provider's own end mark, when only HTTP's is missing: a stream that is
        left before that costs the next call a new connection. Never raises a `ServiceError`.
        """
        with suppress(TimeoutError, ServiceError):
            async with asyncio.timeout(within_s):
                while await self.read():
                    pass


@final
class UpstreamClient:
    """The way to one upstream.

    Every failure is a `ServiceError` whose message is one of a fixed set. Of a request of which
    nothing reached the upstream: UPSTREAM_DNS_FAILED, UPSTREAM_CONNECT_FAILED,
    UPSTREAM_CONNECT_TIMEOUT, UPSTREAM_TLS_FAILED, OVERLOADED (`connections_max`). Of one
    that may have been worked on: UPSTREAM_RESET, UPSTREAM_TRUNCATED,
    UPSTREAM_MALFORMED_RESPONSE, UPSTREAM_TOO_LARGE.

    Args:
        engine: sends one request; `httpx.MockTransport` in tests.
        base_url: with its version, such as `https://api.together.ai/v1`.
        limits: what is accepted.
        user_agent: sent as it is; the provider's edge refuses the well-known default ones.
    """

    def __init__(
        self, engine: httpx.AsyncBaseTransport, *, base_url: str, limits: UpstreamLimits, user_agent: str
    ) -> None:
        self._engine = engine
        self._limits = limits
        self._base = base_url.rstrip("/")
        self._headers = (
            (b"User-Agent", user_agent.encode("ascii")),
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", b"identity"),
        )

    @property
    def gauges(self) -> Mapping[str, Callable[[], int]]:
        """What can be counted at any moment; nothing of an engine that is not ours."""
        if not isinstance(self._engine, ConnectionPool):
            return {}
        engine = self._engine
        return {
            "upstream_requests_in_flight": lambda: engine.in_flight,
            "upstream_connections_leased": lambda: engine.connections()[0],
            "upstream_connections_resting": lambda: engine.connections()[1],
        }

    @classmethod
    def connect(
        cls, *, base_url: str, limits: UpstreamLimits, user_agent: str, ca_file: str | None = None
    ) -> Self:
        """Over real connections, which are made with the first request.

        Trusts the authorities in `ca_file`, and no others, where it is given; else those in the
        file or folder that SSL_CERT_FILE or SSL_CERT_DIR names; else certifi's.
        """
        if not base_url.startswith("https:"):
            # No connection uses TLS, since redirects are not followed. Reading the authorities takes 20 ms.
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        else:
            tls = ssl.create_default_context(cafile=ca_file) if ca_file else httpx.create_ssl_context()
        tls.set_alpn_protocols(["http/1.1"])
        tls_sessions.resume(tls)
        return cls(ConnectionPool(limits, tls=tls), base_url=base_url, limits=limits, user_agent=user_agent)

    async def send(  # noqa: PLR0913  what a request carries, by name
        self,
        method: str,
        path: str,
        *,
        key: Secret | None,
        request_id: str,
        body: bytes | None = None,
        traceparent: str = "",
        tracestate: str = "",
    ) -> UpstreamResponse:
        """Ask for a whole answer. `path` is relative to the base URL: `chat/completions`."""
        request = self._request(method, path, key, request_id, body, (traceparent, tracestate))
        response = await self._asked(request)
        try:
            answer = _uncoded(response, bytes_max=self._limits.max_response_bytes)
            failed = answer.status >= httpx.codes.BAD_REQUEST
            bytes_max = self._limits.max_error_body_bytes if failed else self._limits.max_response_bytes
            text = await answer.read_all(bytes_max)
        finally:
            await _body(response).aclose()
        return UpstreamResponse(status=answer.status, headers=answer.headers, body=text)

    def stream(
        self,
        path: str,
        *,
        key: Secret | None,
        request_id: str,
        body: bytes,
        traceparent: str = "",
        tracestate: str = "",
    ) -> AbstractAsyncContextManager[UpstreamStream]:
        """Ask for an answer to be read as it arrives.

        Leaving the context gives the connection back where the answer has ended, and closes
        it at once where it has not.
        """
        request = self._request("POST", path, key, request_id, body, (traceparent, tracestate))
        return self._ask(request, bytes_max=self._limits.max_stream_bytes)

    async def aclose(self) -> None:
        """Close every connection; requests still in flight fail."""
        await self._engine.aclose()

    def _request(
        self,
        method: str,
        path: str,
        key: Secret | None,
        request_id: str,
        body: bytes | None,
        trace: tuple[str, str],
    ) -> httpx.Request:
        headers = [*self._headers, (b"x-request-id", request_id.encode("ascii", "replace"))]
        if body is not None:
            headers.append((b"Content-Type", b"application/json"))
        if key is not None:
            headers.append((b"Authorization", b"Bearer " + key.reveal().encode("ascii")))
        traceparent, tracestate = trace
        if _TRACEPARENT.fullmatch(traceparent):
            headers.append((b"traceparent", traceparent.encode("ascii")))
            if tracestate:
                headers.append((b"tracestate", tracestate.encode("ascii")))
        # With `stream` rather than `content`, httpx adds no headers; the engine has to anyway.
        return httpx.Request(
            method, _url(f"{self._base}/{path}"), headers=headers, stream=httpx.ByteStream(body or b"")
        )

    @asynccontextmanager
    async def _ask(self, request: httpx.Request, *, bytes_max: int) -> AsyncGenerator[UpstreamStream, None]:
        response = await self._asked(request)
        del request  # a stream may be open for long, and its prompt long too
        try:
            yield _uncoded(response, bytes_max=bytes_max)
        finally:
            await _body(response).aclose()

    async def _asked(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self._engine.handle_async_request(request)
        except httpx.RequestError as exc:
            raise _error(_before_answer(exc)) from exc


@functools.lru_cache(PATHS_MAX)
def _url(text: str) -> httpx.URL:
    return httpx.URL(text)


def _body(response: httpx.Response) -> httpx.AsyncByteStream:
    if not isinstance(response.stream, httpx.AsyncByteStream):
        raise TypeError("an engine's answers are asynchronous")
    return response.stream


def _uncoded(response: httpx.Response, *, bytes_max: int) -> UpstreamStream:
    answer = UpstreamStream(response, bytes_max=bytes_max)
    if answer.headers.get("content-encoding", "").strip().lower() not in _UNCODED:
        raise _error(Reason.UPSTREAM_MALFORMED_RESPONSE)
    return answer


def _lower_case(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def _error(reason: Reason) -> ServiceError:
    return ServiceError(reason, _MESSAGES[reason])


def _first(table: ReasonTable, failure: BaseException) -> Reason:
    return next(reason for known, reason in table if isinstance(failure, known))


def _before_answer(failure: httpx.RequestError) -> Reason:
    return next(
        (reason for cause in _causes(failure) for known, reason in _CAUSES if isinstance(cause, known)),
        _first(_BEFORE_ANSWER, failure),
    )


def _causes(failure: BaseException) -> Iterator[BaseException]:
    """What it came from, and what that came from, as far as is reasonable."""
    cause: BaseException | None = failure
    for _ in range(CAUSES_MAX):
        cause = cause.__cause__ or cause.__context__
        if cause is None:
            return
        yield cause
