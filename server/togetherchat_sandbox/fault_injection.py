"""Faults: functions that turn a good reply into a faulty one.

Owns the bytes of faulty replies. `faults.py` decides which model id has which fault.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import repeat
from typing import TypeAlias

from togetherchat_sandbox.api_errors import SERVER_ERROR, ApiError, error_body
from togetherchat_sandbox.encoding import DONE, JsonObject, encode, event
from togetherchat_sandbox.reply import AnyReply, NoReply, Reply, ReplyEnd, TimedBytes, unary_reply

InjectFault: TypeAlias = Callable[[Reply], AnyReply]

HUGE_EVENT_BYTES = 2 * 1024 * 1024
HUGE_BODY_BYTES = 20 * 1024 * 1024
HUGE_BODY_EVENT_BYTES = 512 * 1024
HUGE_BODY_EVENTS = 80

INVALID_UTF8 = b"\xff\xfe\xc0"
LONE_SURROGATE = b"\\ud83d"

HALVES = (rb'"content":"Hi \ud83d"', rb'"content":"\ude00! "')
"""A text with an emoji, cut inside of the emoji."""
SPLIT_TEXT = rb"Hi \ud83d\ude00! "
PROCESSING = b": PROCESSING\n\n"

_CONTENT = b'"content":"'
_CONTENT_TEXT = re.compile(rb'"content":"(?:[^"\\]|\\.)+"')
_CHOICE_ERROR: JsonObject = {
    "index": 0,
    "finish_reason": "error",
    "error": {"code": 502, "message": "Upstream died"},
}
_MALFORMED_EVENT = (
    b'data: {"id":"sandbox","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"conte\n\n'
)
_TRAILING_EVENT = b'data: {"id":"sandbox","choices":[{"index":0,"delta":{"content":"late"}}]}\n\n'
_HTML = b"<!DOCTYPE html>\n<html><body><h1>Welcome</h1><p>This page is not the API.</p></body></html>\n"
_STREAM_ERROR = error_body(
    ApiError(status=500, message="An error occurred during streaming.", type=SERVER_ERROR, code="internal"),
    response_id="sandbox",
)


def no_fault(reply: Reply) -> AnyReply:
    """Return the reply unchanged."""
    return reply


def without_reply(end: ReplyEnd) -> InjectFault:
    """Send nothing, not even headers."""
    return lambda _reply: NoReply(end)


def end_after_tokens(number: int, end: ReplyEnd, *, last: bytes = b"") -> InjectFault:
    """End a stream after `number` tokens, with `last` as its last bytes."""

    def parts(reply: Reply) -> Iterator[TimedBytes]:
        due_s = 0.0
        for part in _first_tokens(reply.parts, number):
            due_s = part.due_s
            yield part
        if last:
            yield TimedBytes(data=last, due_s=due_s)

    return lambda reply: replace(reply, parts=parts(reply), end=end)


def end_after_half(end: ReplyEnd) -> InjectFault:
    """Send only the first half of a unary body."""

    def inject(reply: Reply) -> AnyReply:
        (part,) = reply.parts
        half = replace(part, data=part.data[: len(part.data) // 2], tokens=part.tokens // 2)
        return replace(reply, parts=(half,), end=end)

    return inject


def error_event_after(tokens: int) -> InjectFault:
    """End a stream with an error event after `tokens` tokens."""
    return end_after_tokens(tokens, ReplyEnd.COMPLETE, last=event(_STREAM_ERROR))


def choice_error_after(tokens: int) -> InjectFault:
    """End a stream with a choice that failed, and `[DONE]`, after `tokens` tokens."""
    failed: JsonObject = {**_CHOICE_ERROR, "delta": {"content": ""}}
    return end_after_tokens(tokens, ReplyEnd.COMPLETE, last=event(_with_choice(failed)) + DONE)


def choice_error(_reply: Reply) -> AnyReply:
    """Send a unary response whose only choice failed."""
    failed: JsonObject = {**_CHOICE_ERROR, "message": {"role": "assistant", "content": ""}}
    return unary_reply(encode(_with_choice(failed)), "application/json")


def without_done(reply: Reply) -> AnyReply:
    """Leave out the terminal marker `[DONE]`."""
    return replace(reply, parts=(part for part in reply.parts if part.data != DONE))


def with_split_character(reply: Reply) -> AnyReply:
    """Begin the content with a character whose halves are in two events."""

    def parts() -> Iterator[TimedBytes]:
        inserted = False
        for part in reply.parts:
            if not inserted and _CONTENT_TEXT.search(part.data):
                inserted = True
                for half in HALVES:
                    yield replace(
                        part, data=_CONTENT_TEXT.sub(half.replace(b"\\", rb"\\"), part.data), tokens=1
                    )
            yield part

    return replace(reply, parts=parts())


def with_comments(reply: Reply) -> AnyReply:
    """Insert a comment between any two tokens, half-way in time."""

    def parts() -> Iterator[TimedBytes]:
        due_s = 0.0
        for number, part in enumerate(reply.parts):
            if number:
                yield TimedBytes(data=PROCESSING, due_s=(due_s + part.due_s) / 2)
            due_s = part.due_s
            yield part

    return replace(reply, parts=parts())


def with_trailing_bytes(reply: Reply) -> AnyReply:
    """Append an event and noise after the terminal marker."""
    return replace(
        reply,
        parts=_followed(reply.parts, TimedBytes(data=_TRAILING_EVENT + b"noise", after_last_token=True)),
    )


def with_malformed_event(reply: Reply) -> AnyReply:
    """Insert an event of malformed JSON after the first token."""
    return replace(
        reply, parts=_after_first_token(reply.parts, lambda part: [replace(part, data=_MALFORMED_EVENT)])
    )


def with_extra_events(prefix: bytes, *, repeated: int = 1, times: int = 1) -> InjectFault:
    """Insert `times` events after the first token, their content prefixed by raw bytes.

    The bytes are `prefix`, `repeated` times.
    """

    def extra(part: TimedBytes) -> Iterable[TimedBytes]:
        return repeat(replace(part, data=_prefixed(part.data, prefix * repeated)), times)

    return lambda reply: replace(reply, parts=_after_first_token(reply.parts, extra))


def with_content_prefix(prefix: bytes, *, repeated: int = 1) -> InjectFault:
    """Prefix the content of a unary body by raw bytes: `prefix`, `repeated` times."""
    return with_changed_body(lambda body: _prefixed(body, prefix * repeated))


def with_changed_body(change: Callable[[bytes], bytes]) -> InjectFault:
    """Change a unary body as a whole; its declared length stays true."""

    def inject(reply: Reply) -> AnyReply:
        (part,) = reply.parts
        changed = replace(part, data=change(part.data))
        return replace(reply, parts=(changed,), length=len(changed.data))

    return inject


def with_headers(headers: Mapping[str, str]) -> InjectFault:
    """Replace headers; the body stays right."""
    return lambda reply: replace(reply, headers={**reply.headers, **headers})


def html_page(_reply: Reply) -> AnyReply:
    """Send an HTML page instead of the completion."""
    return unary_reply(_HTML, "text/html; charset=UTF-8")


def malformed_json(_reply: Reply) -> AnyReply:
    """Send a truncated JSON body as `application/json`."""
    return unary_reply(b'{"id": "sandbox", "object": "chat.completion", "choices": [', "application/json")


def empty_body(reply: Reply) -> AnyReply:
    """Send the usual headers without a body."""
    return replace(reply, parts=(), length=0)


def redirect(_reply: Reply) -> AnyReply:
    """Redirect to an unknown path. A client that follows gets 404, and the request log shows it."""
    return Reply(status=302, headers={"location": "/v1/redirected"}, length=0)


def rejection(error: ApiError) -> InjectFault:
    """Send an error in place of the reply."""
    body = encode(error_body(error, response_id="sandbox"))
    return lambda _reply: unary_reply(body, "application/json", status=error.status)


def server_error(_reply: Reply) -> AnyReply:
    """Send the error of an error event as a unary 500 response."""
    return unary_reply(encode(_STREAM_ERROR), "application/json", status=500)


def _with_choice(choice: JsonObject) -> JsonObject:
    return {"id": "sandbox", "created": 1, "model": "sandbox", "choices": [choice]}


def _prefixed(data: bytes, prefix: bytes) -> bytes:
    return data.replace(_CONTENT, _CONTENT + prefix, 1)


def _first_tokens(parts: Iterable[TimedBytes], number: int) -> Iterator[TimedBytes]:
    sent = 0
    for part in parts:
        if part.after_last_token or sent + part.tokens > number:
            return
        sent += part.tokens
        yield part


def _after_first_token(
    parts: Iterable[TimedBytes], extra: Callable[[TimedBytes], Iterable[TimedBytes]]
) -> Iterator[TimedBytes]:
    inserted = False
    for part in parts:
        yield part
        if part.tokens and not inserted:
            inserted = True
            yield from extra(part)


def _followed(parts: Iterable[TimedBytes], last: TimedBytes) -> Iterator[TimedBytes]:
    due_s = 0.0
    for part in parts:
        due_s = part.due_s
        yield part
    yield replace(last, due_s=due_s)
