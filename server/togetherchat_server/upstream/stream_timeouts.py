"""Decides which timeout of a stream expires next.

Pure: the times are arguments. Until the first event of the completion only the first-token timeout
applies. Comments that keep the connection alive do not extend it, and silence does not shorten it,
because a model may process a long prompt in silence. From the first event on the idle timeout
applies, which every byte restarts.
"""

from collections.abc import Mapping
from typing import Final, final

from togetherchat_server.domain.reasons import Reason

TIMEOUT_MESSAGES: Final[Mapping[Reason, str]] = {
    Reason.FIRST_TOKEN_TIMEOUT: "the provider sent no part of the completion in time",
    Reason.STREAM_IDLE_TIMEOUT: "the provider stopped sending in the middle of the completion",
}


@final
class StreamTimeouts:
    """Report what arrived, then read the next deadline. Seconds, on one monotonic clock."""

    def __init__(self, *, started_s: float, first_token_timeout_s: float, idle_timeout_s: float) -> None:
        self._first_token_deadline_s = started_s + first_token_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._last_byte_s = started_s
        self._first_event_seen = False

    def bytes_arrived(self, now_s: float) -> None:
        self._last_byte_s = now_s

    def read_deferred(self, until_s: float) -> None:
        """Report that nothing is read until then, which is not the provider's silence."""
        self._last_byte_s = until_s

    def event_arrived(self, now_s: float) -> None:
        """Report an event of the completion; a comment is not one."""
        self._last_byte_s = now_s
        self._first_event_seen = True

    def deadline(self) -> tuple[float, Reason]:
        """When the stream fails unless something arrives before, and the reason it then fails with."""
        if self._first_event_seen:
            return self._last_byte_s + self._idle_timeout_s, Reason.STREAM_IDLE_TIMEOUT
        return self._first_token_deadline_s, Reason.FIRST_TOKEN_TIMEOUT
