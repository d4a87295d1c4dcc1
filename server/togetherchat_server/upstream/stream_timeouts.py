"""Which limit of time a stream runs into next.

Pure: knows the times at which things happened and no clock. Until the first event of the answer
there is one limit, that of the first token: comments that only keep the connection alive do not
move it, nor does silence end it early, since a long prompt is thought over in silence. From the
first event on there is the limit of silence, which any byte puts off.
"""

from typing import final

from togetherchat_server.domain.reasons import Reason


@final
class StreamTimeouts:
    """Tell it what arrived; ask it for the next deadline. Seconds, on one monotonic clock."""

    def __init__(self, *, started_s: float, first_token_timeout_s: float, idle_s: float) -> None:
        self._first_token_deadline_s = started_s + first_token_timeout_s
        self._idle_s = idle_s
        self._last_byte_s = started_s
        self._answering = False

    def bytes_arrived(self, now_s: float) -> None:
        self._last_byte_s = now_s

    def event_arrived(self, now_s: float) -> None:
        """An event of the answer, not a comment."""
        self._last_byte_s = now_s
        self._answering = True

    def deadline(self) -> tuple[float, Reason]:
        """When the stream has failed unless something arrives before, and as what."""
        if self._answering:
            return self._last_byte_s + self._idle_s, Reason.STREAM_IDLE_TIMEOUT
        return self._first_token_deadline_s, Reason.FIRST_TOKEN_TIMEOUT
