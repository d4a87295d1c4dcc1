"""The request log: the last requests and how each connection ended, as proof of what a client did.

Owns the list, its bound and its JSON. Never holds a key or a word of a message. Times are seconds
since the sandbox started, from a monotonic clock.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import final

from togetherchat_sandbox.encoding import Json, JsonObject

LABEL_CHARACTERS_MAX = 200


class Ended(Enum):
    """How a request ended, or that it is still in flight."""

    COMPLETE = "complete"
    CLIENT_CLOSED = "client_closed"
    ABORTED_BY_SANDBOX = "aborted_by_sandbox"
    RUNNING = "running"


@dataclass(slots=True, kw_only=True)
class LoggedRequest:
    """One request. `id` is the client's `x-request-id`, `response_id` the id of our response."""

    number: int
    id: str | None
    response_id: str
    method: str
    path: str
    received_at: float
    model: str | None = None
    stream: bool = False
    status: int | None = None
    first_byte_at: float | None = None
    finished_at: float | None = None
    closed_at: float | None = None
    ended: Ended = Ended.RUNNING
    tokens_sent: int = 0
    input_tokens: int = 0
    """Of a completion that was generated, at least in part."""
    cached_tokens: int = 0
    connection: object = field(default=None, repr=False)

    def to_json(self) -> JsonObject:
        """Return the entry as JSON."""
        return {
            "number": self.number,
            "id": self.id,
            "response_id": self.response_id,
            "method": self.method,
            "path": self.path,
            "model": self.model,
            "stream": self.stream,
            "received_at": self.received_at,
            "first_byte_at": self.first_byte_at,
            "finished_at": self.finished_at,
            "closed_at": self.closed_at,
            "ended": self.ended.value,
            "status": self.status,
            "tokens_sent": self.tokens_sent,
        }


@final
class RequestLog:
    """The last requests, oldest first."""

    def __init__(self, clock: Callable[[], float], *, requests_max: int) -> None:
        self._clock = clock
        self._start = clock()
        self._entries: deque[LoggedRequest] = deque(maxlen=requests_max)
        self._stopping = False

    def now(self) -> float:
        """Return the seconds since the sandbox started."""
        return round(self._clock() - self._start, 6)

    def add(
        self,
        connection: object,
        *,
        number: int,
        response_id: str,
        id: str | None,  # noqa: A002  the name in the JSON
        method: str,
        path: str,
    ) -> LoggedRequest:
        """Log a request whose headers have arrived."""
        entry = LoggedRequest(
            number=number,
            id=None if id is None else _label(id),
            response_id=response_id,
            method=_label(method),
            path=_label(path),
            received_at=self.now(),
            connection=connection,
        )
        self._entries.append(entry)
        return entry

    def set_model(self, entry: LoggedRequest, *, model: str, stream: bool) -> None:
        """Log the model and the kind of response that a valid body requests."""
        entry.model, entry.stream = _label(model), stream

    def reply_started(self, entry: LoggedRequest, status: int) -> None:
        """Log the status and the time of the first byte."""
        entry.status, entry.first_byte_at = status, self.now()

    def set_ended(self, entry: LoggedRequest, ended: Ended) -> None:
        """Log how the request ended; only the first call counts."""
        if entry.ended is Ended.RUNNING:
            entry.ended = ended

    def finish(self, entry: LoggedRequest) -> None:
        """Log that work on the request has stopped; a request still in flight was cut off."""
        entry.finished_at = self.now()
        self.set_ended(entry, Ended.ABORTED_BY_SANDBOX if self._stopping else Ended.CLIENT_CLOSED)

    def connection_lost(self, connection: object) -> None:
        """Log that a connection has closed, whichever side closed it."""
        now = self.now()
        for entry in self._entries:
            if entry.connection is connection:
                entry.closed_at, entry.connection = now, None

    def sandbox_stopping(self) -> None:
        """From now on, attribute requests that are cut off to the sandbox."""
        self._stopping = True

    def entries(self, *, id: str | None = None, model: str | None = None) -> list[LoggedRequest]:  # noqa: A002  the name in the query
        """Return the requests with this model and this id (the client's or ours); None matches any."""
        return [
            entry
            for entry in self._entries
            if model in {None, entry.model} and id in {None, entry.id, entry.response_id}
        ]

    def to_json(self, *, id: str | None = None, model: str | None = None) -> JsonObject:  # noqa: A002  the name in the query
        """Return the body of the request log's page."""
        requests: list[Json] = [entry.to_json() for entry in self.entries(id=id, model=model)]
        return {"now": self.now(), "requests": requests}


def _label(text: str) -> str:
    """Return a client's text, truncated, without characters that JSON cannot encode."""
    return text[:LABEL_CHARACTERS_MAX].encode(errors="replace").decode()
