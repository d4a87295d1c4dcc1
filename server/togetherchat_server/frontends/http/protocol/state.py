"""The states of a connection of a client.

The state defines what the next byte from the client means:

    PROXY       part of a trusted proxy's header      -> IDLE, CLOSING (malformed)
    IDLE        first byte of a request head          -> HEAD
    HEAD        part of the head                      -> BODY, RESPONDING, CLOSING (rejected)
    BODY        part of the body;                     -> RESPONDING (the body is complete),
                the application is running               LINGERING (the application has returned),
                                                         BROKEN (the body is malformed)
    RESPONDING  first byte of the next request:       -> IDLE, CLOSING
                buffered; the application is running
    BROKEN      discarded; the application is running -> CLOSING
    LINGERING   part of an unread body: discarded     -> IDLE (the body is complete)
    CLOSING     discarded                             -> CLOSED
    CLOSED      the connection is lost
"""

from enum import Enum, auto
from typing import Final


class State(Enum):
    """The state of a connection; the table above describes each."""

    PROXY = auto()
    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    RESPONDING = auto()
    BROKEN = auto()
    LINGERING = auto()
    CLOSING = auto()
    CLOSED = auto()


RUNNING: Final = frozenset({State.BODY, State.RESPONDING, State.BROKEN})
"""The states in which an application is running."""
