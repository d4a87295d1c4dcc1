"""Decodes server-sent events from bytes, however the bytes were cut.

Owns the framing of the WHATWG's `text/event-stream`. Knows no JSON, no `[DONE]` and no socket. Readers
of an event's data check whether the bytes are UTF-8.

The theory: a line ends at LF, CR or CRLF and at nothing else. Splitting text at what Unicode calls a
line end (U+2028, U+0085, form feed) tears events in two, because those may appear unescaped inside a
JSON string. So everything happens on bytes, and every search runs in C over new bytes only: the
unfinished line is appended to, never searched again, so that a stream that arrives byte by byte costs
what it costs in one piece.
"""

from typing import NamedTuple, final

from togetherchat_server.domain.reasons import Reason, ServiceError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@final
class SseEvent(NamedTuple):
    """One event: its `event:` field, empty if it had none, and its data lines joined with LF."""

    name: str
    data: bytes


@final
class SseDecoder:
    """Incremental decoder: feed bytes, receive the events that they complete."""

    def __init__(self, *, max_event_bytes: int) -> None:
        self.comments = 0
        """Comments read so far. A server sends them as signs of life."""
        self._max_event_bytes = max_event_bytes
        self._head: bytes | None = b""
        self._after_cr = False
        self._line = bytearray()
        self._name = ""
        self._data: list[bytes] = []
        self._data_bytes = 0

    def feed(self, data: bytes) -> list[SseEvent]:
        """Return the events that `data` completes.

        Raises:
            ServiceError: UPSTREAM_TOO_LARGE, a line or an event is longer than `max_event_bytes`.
        """
        if self._head is not None:
            data = self._without_byte_order_mark(data)
        lines = self._with_line_feeds(data).split(b"\n")
        events: list[SseEvent] = []
        if len(lines) > 1:
            if self._line:
                lines[0] = bytes(self._line) + lines[0]
                self._line.clear()
            for line in lines[:-1]:
                self._feed_line(line, events)
        self._line += lines[-1]
        self._enforce_bound(len(self._line))
        return events

    def _without_byte_order_mark(self, data: bytes) -> bytes:
        """Hold the stream's first bytes back until they are, or cannot become, a byte order mark."""
        head = (self._head or b"") + data
        if len(head) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(head):
            self._head = head
            return b""
        self._head = None
        return head.removeprefix(_BYTE_ORDER_MARK)

    def _with_line_feeds(self, data: bytes) -> bytes:
        """Turn CR and CRLF into LF. A CR ends its line at once; the LF that may follow is skipped."""
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" not in data:
            return data
        self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _feed_line(self, line: bytes, events: list[SseEvent]) -> None:
        if not line:
            self._dispatch(events)
            return
        self._enforce_bound(len(line))
        field, _, value = line.partition(b":")  # the field of a comment is empty
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._data_bytes += len(value) + 1
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
        elif not field:
            self.comments += 1

    def _dispatch(self, events: list[SseEvent]) -> None:
        """End the event. One without data is dropped, whatever other fields it had.

        The WHATWG dispatches empty data too if there was a line for it. Some engines send such lines to
        keep a connection alive, and no reader of JSON can read them.
        """
        if self._data:
            data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            if data and not data.isspace():
                events.append(SseEvent(self._name, data))
            self._data = []
            self._data_bytes = 0
        self._name = ""

    def _enforce_bound(self, line_bytes: int) -> None:
        if self._data_bytes + line_bytes > self._max_event_bytes:
            raise ServiceError(Reason.UPSTREAM_TOO_LARGE, "an event of the provider's stream is too long")
