"""The steps of a scripted upstream's response, and common responses made of them."""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from support import openai


@dataclass(frozen=True, slots=True)
class Send:
    """Send bytes; the step ends when the kernel has accepted them."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Pieces:
    """Send bytes in pieces of equal size, each in its own write; other tasks run in between."""

    data: bytes
    piece_bytes: int = 1


@dataclass(frozen=True, slots=True)
class Repeat:
    """Send the same bytes repeatedly, as fast as the peer reads them."""

    data: bytes
    times: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for an event that the test sets, or for a number of seconds."""

    until: asyncio.Event | float


@dataclass(frozen=True, slots=True)
class Fin:
    """Close the connection with a FIN, now."""


@dataclass(frozen=True, slots=True)
class FinLater:
    """Continue, and close the connection with a FIN after a delay, whatever step runs then."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Reset:
    """Close the connection with an RST, now."""


@dataclass(frozen=True, slots=True)
class AwaitClose:
    """Wait until the peer has closed its side."""


@dataclass(frozen=True, slots=True)
class Stall:
    """Do nothing more, and keep the socket open even after the peer closes its side."""


@dataclass(frozen=True, slots=True)
class StopReading:
    """Stop reading: what the peer sends accumulates, and its close is not seen either."""


@dataclass(frozen=True, slots=True)
class StartReading:
    """Read what has accumulated, and everything after it."""


Step = (
    Send | Pieces | Repeat | Pause | Fin | FinLater | Reset | AwaitClose | Stall | StopReading | StartReading
)
Response = Sequence[Step]


def head(status: int, headers: Mapping[str, str | int]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Scripted\r\n{lines}\r\n".encode("latin-1")


def http_response(status: int, body: bytes, headers: Mapping[str, str | int] | None = None) -> Response:
    """A complete response with its Content-Length."""
    return (Send(head(status, {"Content-Length": len(body), **(headers or {})}) + body),)


def json_response(status: int, body: object, headers: Mapping[str, str | int] | None = None) -> Response:
    return http_response(
        status, json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})}
    )


def html_response(status: int, body: str, headers: Mapping[str, str | int] | None = None) -> Response:
    return http_response(status, body.encode(), {"Content-Type": "text/html", **(headers or {})})


def chunk(data: bytes) -> bytes:
    """One chunk of HTTP's chunked coding; `chunk(b"")` is the last one."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def sse_head(status: int = 200, headers: Mapping[str, str | int] | None = None) -> bytes:
    return head(
        status, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked", **(headers or {})}
    )


def sse_event(data: dict[str, Any] | str | bytes) -> bytes:
    """One server-sent event, as one HTTP chunk."""
    return chunk(openai.event(data))


def sse(events: Iterable[dict[str, Any] | str | bytes], *, chunked: bool = True) -> Response:
    """A complete stream of events: each a JSON body, or the text after `data: `.

    If not chunked, the stream ends with a FIN, as in HTTP/1.0.
    """
    lines = [openai.event(event) for event in events]
    if chunked:
        return (Send(sse_head()), *(Send(chunk(line)) for line in lines), Send(chunk(b"")))
    opening = head(200, {"Content-Type": "text/event-stream", "Connection": "close"})
    return (Send(opening), *(Send(line) for line in lines), Fin())


def paused_sse(released: asyncio.Event, first: str = "Hi ", last: str = "there") -> Response:
    """A stream of two texts, which waits for the event after the first one."""
    end = sse_event(openai.chunk(last, finish_reason="stop")) + sse_event(openai.DONE) + chunk(b"")
    return (Send(sse_head() + sse_event(openai.chunk(first))), Pause(released), Send(end))
