"""What was asked and how each connection ended, so that a test can prove what its client did.

Owns the list, its bound and its JSON. Never holds a key or a word of a message. Times are seconds
since the sandbox began, from a clock that only goes forward.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import final

from togetherchat_sandbox.wire import Json, JsonObject

LABEL_CHARACTERS_MAX = 200


class Ended(Enum):
    """Who ended a request."""

    COMPLETE = "complete"
    CLIENT_CLOSED = "client_closed"
    ABORTED_BY_SANDBOX = "aborted_by_sandbox"
    RUNNING = "running"


@dataclass(slots=True, kw_only=True)
class Entry:
    """One request. `id` is the caller's own `x-request-id`, `answer_id` is ours."""

    number: int
    id: str | None
    answer_id: str
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
    connection: object = field(default=None, repr=False)

    def told(self) -> JsonObject:
        """The entry as JSON."""
        return {
            "number": self.number,
            "id": self.id,
            "answer_id": self.answer_id,
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
class Ledger:
    """The last requests, oldest first."""

    def __init__(self, clock: Callable[[], float], *, requests_max: int) -> None:
        self._clock = clock
        self._start = clock()
        self._entries: deque[Entry] = deque(maxlen=requests_max)
        self._closing = False

    def now(self) -> float:
        """Seconds since the sandbox began."""
        return round(self._clock() - self._start, 6)

    def open(
        self,
        connection: object,
        *,
        number: int,
        answer_id: str,
        id: str | None,  # noqa: A002  the name it has in the JSON
        method: str,
        path: str,
    ) -> Entry:
        """Write down a request whose headers have arrived."""
        entry = Entry(
            number=number,
            id=None if id is None else _label(id),
            answer_id=answer_id,
            method=_label(method),
            path=_label(path),
            received_at=self.now(),
            connection=connection,
        )
        self._entries.append(entry)
        return entry

    def identify(self, entry: Entry, *, model: str, stream: bool) -> None:
        """Write down what a readable body asked for."""
        entry.model, entry.stream = _label(model), stream

    def begin(self, entry: Entry, status: int) -> None:
        """The first byte of the reply is on its way."""
        entry.status, entry.first_byte_at = status, self.now()

    def end(self, entry: Entry, ended: Ended) -> None:
        """The reply is over; what was said first counts."""
        if entry.ended is Ended.RUNNING:
            entry.ended = ended

    def finish(self, entry: Entry) -> None:
        """Nothing works on the request any more; if it was still running, somebody hung up."""
        entry.finished_at = self.now()
        self.end(entry, Ended.ABORTED_BY_SANDBOX if self._closing else Ended.CLIENT_CLOSED)

    def connection_lost(self, connection: object) -> None:
        """A connection is closed, whoever closed it."""
        now = self.now()
        for entry in self._entries:
            if entry.connection is connection:
                entry.closed_at, entry.connection = now, None

    def close(self) -> None:
        """From here on it is the sandbox that ends what still runs."""
        self._closing = True

    def entries(self, *, id: str | None = None, model: str | None = None) -> list[Entry]:  # noqa: A002  the name it has in the query
        """The requests with this model and this id (the caller's or ours), None being any."""
        return [
            entry
            for entry in self._entries
            if model in {None, entry.model} and id in {None, entry.id, entry.answer_id}
        ]

    def told(self, *, id: str | None = None, model: str | None = None) -> JsonObject:  # noqa: A002  the name it has in the query
        """The body of `GET /sandbox/ledger`."""
        requests: list[Json] = [entry.told() for entry in self.entries(id=id, model=model)]
        return {"now": self.now(), "requests": requests}


def _label(text: str) -> str:
    """Text of a caller, cut, and without what cannot be written as JSON."""
    return text[:LABEL_CHARACTERS_MAX].encode(errors="replace").decode()
