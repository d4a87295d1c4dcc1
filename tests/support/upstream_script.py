"""What a scripted upstream is told to do: the steps of an answer, and common answers made of them."""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Send:
    """Send bytes; the step ends when this process has handed them to the kernel."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Pieces:
    """Send bytes in pieces of a size, each in a write of its own, other tasks running in between."""

    data: bytes
    piece_bytes: int = 1


@dataclass(frozen=True, slots=True)
class Repeat:
    """Send the same bytes over and over, as fast as the peer takes them."""

    data: bytes
    times: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for an event that the test sets, or for seconds."""

    until: asyncio.Event | float


@dataclass(frozen=True, slots=True)
class Fin:
    """Close the connection in order, now."""


@dataclass(frozen=True, slots=True)
class FinLater:
    """Go on, and close the connection in order after a while, whatever it is doing then."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Reset:
    """Close the connection with an RST, now."""


@dataclass(frozen=True, slots=True)
class AwaitClose:
    """Wait until the peer has closed its side."""


@dataclass(frozen=True, slots=True)
class Stall:
    """Do nothing ever again, and leave the socket open even when the peer closes its side."""


@dataclass(frozen=True, slots=True)
class StopReading:
    """Take nothing more from the peer: what it sends piles up, and its close is not seen either."""


@dataclass(frozen=True, slots=True)
class StartReading:
    """Take what has piled up, and the rest."""


Step = (
    Send | Pieces | Repeat | Pause | Fin | FinLater | Reset | AwaitClose | Stall | StopReading | StartReading
)
Answer = Sequence[Step]


def head(status: int, headers: Mapping[str, str | int]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Scripted\r\n{lines}\r\n".encode("latin-1")


def answer(status: int, body: bytes, headers: Mapping[str, str | int] | None = None) -> Answer:
    """A whole answer with its Content-Length."""
    return (Send(head(status, {"Content-Length": len(body), **(headers or {})}) + body),)


def json_answer(status: int, body: object, headers: Mapping[str, str | int] | None = None) -> Answer:
    return answer(status, json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})})


def html_answer(status: int, body: str, headers: Mapping[str, str | int] | None = None) -> Answer:
    return answer(status, body.encode(), {"Content-Type": "text/html", **(headers or {})})


def chunk(data: bytes) -> bytes:
    """One HTTP chunk; `chunk(b"")` is the last one."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def sse_head(status: int = 200, headers: Mapping[str, str | int] | None = None) -> bytes:
    return head(
        status, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked", **(headers or {})}
    )


def sse(events: Iterable[bytes | str], *, chunked: bool = True) -> Answer:
    """A stream of events, each the text after `data: `, ended in order.

    Not chunked, it is ended by a FIN, as HTTP/1.0 would.
    """
    lines = [b"data: %s\n\n" % (event.encode() if isinstance(event, str) else event) for event in events]
    if chunked:
        return (Send(sse_head()), *(Send(chunk(line)) for line in lines), Send(chunk(b"")))
    opening = head(200, {"Content-Type": "text/event-stream", "Connection": "close"})
    return (Send(opening), *(Send(line) for line in lines), Fin())
