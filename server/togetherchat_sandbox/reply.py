"""A reply as a value: its bytes, when each part is due, and how the connection ends.

Everything the sandbox can do to a client is such a value. A fault is therefore a function from
reply to reply, and sending is one small loop (`delivery.py`). Knows no HTTP library.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias


class ReplyEnd(Enum):
    """What happens to the connection after the last part."""

    COMPLETE = "the message ends as HTTP requires"
    CLOSE = "the connection is closed in the middle of the message"
    RESET = "the connection is reset (RST)"
    STALL = "nothing more is sent, and the connection stays open until the client closes it"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedBytes:
    """A part of the body, due `due_s` seconds after the reply began.

    `tokens` is the number of tokens in it. `after_last_token` marks everything that follows the
    last token: finish reasons, usage, `[DONE]`.
    """

    data: bytes
    due_s: float = 0
    tokens: int = 0
    after_last_token: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InputTokens:
    """The input of a completion, and the part of it that the prompt cache had. 0: nothing is generated."""

    all: int = 0
    cached: int = 0


NO_INPUT = InputTokens()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A status, headers and a body. The headers are sent with the first part.

    `length` is the declared content-length, None for a chunked body.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    parts: Iterable[TimedBytes] = ()
    length: int | None = None
    end: ReplyEnd = ReplyEnd.COMPLETE
    input: InputTokens = NO_INPUT


@dataclass(frozen=True, slots=True)
class NoReply:
    """Not one byte is sent; only the connection ends."""

    end: ReplyEnd
    input: InputTokens = NO_INPUT


AnyReply: TypeAlias = Reply | NoReply


def unary_reply(
    data: bytes, content_type: str, *, status: int = 200, due_s: float = 0, tokens: int = 0
) -> Reply:
    """Return a reply whose body is one part."""
    return Reply(
        status=status,
        headers={"content-type": content_type},
        parts=(TimedBytes(data=data, due_s=due_s, tokens=tokens),),
        length=len(data),
    )
