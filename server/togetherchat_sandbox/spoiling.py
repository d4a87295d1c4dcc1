"""Ways to spoil a good reply. Each is a function from reply to outcome, or makes one.

Owns what broken answers look like on the wire; which name breaks what is in `misbehaviour.py`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import repeat
from typing import TypeAlias

from togetherchat_sandbox.refusals import SERVER_ERROR, Refusal, error_body
from togetherchat_sandbox.reply import Ending, NoReply, Outcome, Piece, Reply, whole
from togetherchat_sandbox.wire import DONE, encode, event

Spoil: TypeAlias = Callable[[Reply], Outcome]

HUGE_EVENT_BYTES = 2 * 1024 * 1024
HUGE_BODY_BYTES = 20 * 1024 * 1024
HUGE_BODY_EVENT_BYTES = 512 * 1024
HUGE_BODY_EVENTS = 80

INVALID_UTF8 = b"\xff\xfe\xc0"
LONE_SURROGATE = b"\\ud83d"

_CONTENT = b'"content":"'
_TORN_EVENT = (
    b'data: {"id":"sandbox","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"conte\n\n'
)
_LATE = b'data: {"id":"sandbox","choices":[{"index":0,"delta":{"content":"late"}}]}\n\n'
_HTML = (
    b"<!DOCTYPE html>\n<html><body><h1>Welcome</h1><p>This is no API, says the sandbox.</p></body></html>\n"
)
_STREAM_ERROR = error_body(
    Refusal(status=500, message="An error occurred during streaming.", type=SERVER_ERROR, code="internal"),
    answer_id="sandbox",
)


def good(reply: Reply) -> Outcome:
    """Nothing is spoiled."""
    return reply


def unanswered(ending: Ending) -> Spoil:
    """Not even headers."""
    return lambda _reply: NoReply(ending)


def after_tokens(number: int, ending: Ending, *, last: bytes = b"") -> Spoil:
    """A stream that ends after `number` tokens, with `last` as its last bytes."""

    def pieces(reply: Reply) -> Iterator[Piece]:
        due_s = 0.0
        for piece in _first_tokens(reply.pieces, number):
            due_s = piece.due_s
            yield piece
        if last:
            yield Piece(data=last, due_s=due_s)

    return lambda reply: replace(reply, pieces=pieces(reply), ending=ending)


def after_half(ending: Ending) -> Spoil:
    """A body of which only the first half comes."""

    def spoil(reply: Reply) -> Outcome:
        (piece,) = reply.pieces
        half = replace(piece, data=piece.data[: len(piece.data) // 2], tokens=piece.tokens // 2)
        return replace(reply, pieces=(half,), ending=ending)

    return spoil


def stream_error(tokens: int) -> Spoil:
    """An error event after so many tokens; the stream ends with it."""
    return after_tokens(tokens, Ending.CLEAN, last=event(_STREAM_ERROR))


def without_done(reply: Reply) -> Outcome:
    """Everything but the terminal marker."""
    return replace(reply, pieces=(piece for piece in reply.pieces if piece.data != DONE))


def with_late_bytes(reply: Reply) -> Outcome:
    """One more event and some noise after the terminal marker."""
    return replace(reply, pieces=_followed(reply.pieces, Piece(data=_LATE + b"noise", closing=True)))


def with_torn_event(reply: Reply) -> Outcome:
    """An event of broken JSON after the first token."""
    return replace(
        reply, pieces=_after_first_token(reply.pieces, lambda piece: [replace(piece, data=_TORN_EVENT)])
    )


def with_event(prefix: bytes, *, repeated: int = 1, times: int = 1) -> Spoil:
    """After the first token `times` more, whose content begins with `prefix`, `repeated`, as raw bytes."""

    def extra(piece: Piece) -> Iterable[Piece]:
        return repeat(replace(piece, data=_prefixed(piece.data, prefix * repeated)), times)

    return lambda reply: replace(reply, pieces=_after_first_token(reply.pieces, extra))


def with_content(prefix: bytes, *, repeated: int = 1) -> Spoil:
    """A body whose content begins with `prefix`, `repeated`, as raw bytes."""
    return with_body(lambda body: _prefixed(body, prefix * repeated))


def with_body(change: Callable[[bytes], bytes]) -> Spoil:
    """A body changed as a whole; its declared length stays true."""

    def spoil(reply: Reply) -> Outcome:
        (piece,) = reply.pieces
        changed = replace(piece, data=change(piece.data))
        return replace(reply, pieces=(changed,), length=len(changed.data))

    return spoil


def with_headers(headers: Mapping[str, str]) -> Spoil:
    """The right body under other headers."""
    return lambda reply: replace(reply, headers={**reply.headers, **headers})


def html(_reply: Reply) -> Outcome:
    """A web page where the answer should be."""
    return whole(_HTML, "text/html; charset=UTF-8")


def no_json(_reply: Reply) -> Outcome:
    """A body that calls itself JSON."""
    return whole(b'{"id": "sandbox", "object": "chat.completion", "choices": [', "application/json")


def empty(reply: Reply) -> Outcome:
    """Headers as usual, and no body."""
    return replace(reply, pieces=(), length=0)


def redirect(_reply: Reply) -> Outcome:
    """Another address. Who follows is told 404, and the ledger shows it."""
    return Reply(status=302, headers={"location": "/v1/redirected"}, length=0)


def server_error(_reply: Reply) -> Outcome:
    """What an error event would have said, where nothing streams."""
    return whole(encode(_STREAM_ERROR), "application/json", status=500)


def _prefixed(data: bytes, prefix: bytes) -> bytes:
    return data.replace(_CONTENT, _CONTENT + prefix, 1)


def _first_tokens(pieces: Iterable[Piece], number: int) -> Iterator[Piece]:
    sent = 0
    for piece in pieces:
        if piece.closing or sent + piece.tokens > number:
            return
        sent += piece.tokens
        yield piece


def _after_first_token(pieces: Iterable[Piece], extra: Callable[[Piece], Iterable[Piece]]) -> Iterator[Piece]:
    done = False
    for piece in pieces:
        yield piece
        if piece.tokens and not done:
            done = True
            yield from extra(piece)


def _followed(pieces: Iterable[Piece], last: Piece) -> Iterator[Piece]:
    due_s = 0.0
    for piece in pieces:
        due_s = piece.due_s
        yield piece
    yield replace(last, due_s=due_s)
