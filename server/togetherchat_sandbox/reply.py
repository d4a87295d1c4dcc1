"""What goes back over the connection, as a value: bytes, when each is due, and how it ends.

Everything the sandbox can do to a client is one of these, so that misbehaviour is a function from
reply to reply, and sending is one small loop (`delivery.py`). Knows no HTTP library.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias


class Ending(Enum):
    """How the connection is left after the last piece."""

    CLEAN = "the message ends as HTTP says"
    CUT = "the connection is closed in the middle of the message"
    RESET = "the connection is reset (RST)"
    SILENCE = "nothing more is sent, and the connection stays open until the client leaves"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Bytes of the body, due `due_s` seconds after the answer began.

    `tokens` is how many tokens they carry; `closing` marks all that follows the last token
    (finish reasons, usage, `[DONE]`).
    """

    data: bytes
    due_s: float = 0
    tokens: int = 0
    closing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A status, headers and a body. The headers go out with the first piece.

    `length` is the content-length that is declared, None for a chunked body.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    pieces: Iterable[Piece] = ()
    length: int | None = None
    ending: Ending = Ending.CLEAN


@dataclass(frozen=True, slots=True)
class NoReply:
    """Not one byte: only an ending."""

    ending: Ending


Outcome: TypeAlias = Reply | NoReply


def whole(data: bytes, content_type: str, *, status: int = 200, due_s: float = 0, tokens: int = 0) -> Reply:
    """A body in one piece."""
    return Reply(
        status=status,
        headers={"content-type": content_type},
        pieces=(Piece(data=data, due_s=due_s, tokens=tokens),),
        length=len(data),
    )
