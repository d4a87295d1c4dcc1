"""The models that answer in forms of other engines: readable without a guess, and not Together's own.

Sources: public reports of 2025 and 2026 about llama.cpp, Mistral, vLLM and gateways in front of them.
"""

import re
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from togetherchat_sandbox.behaviour import Behaviour, SandboxModel
from togetherchat_sandbox.dialects import CALLS_WITHOUT_IDS
from togetherchat_sandbox.encoding import DONE, Json, JsonObject, as_list, as_object, decode, encode, event
from togetherchat_sandbox.fault_injection import InjectFault, with_changed_body
from togetherchat_sandbox.plan import PlanOverrides
from togetherchat_sandbox.reply import AnyReply, Reply, TimedBytes, unary_reply

EMPTY_EVENT: Final = b"data:\n\n"
GZIP_WINDOW: Final = 31
"""zlib's number for its largest window in gzip's format."""

_DATA: Final = b"data: "
_TEXT: Final = re.compile(rb'"content":("(?:[^"\\]|\\.)+")')


def _with_changed_events(reply: Reply, pattern: re.Pattern[bytes], replacement: bytes) -> AnyReply:
    parts = (replace(part, data=pattern.sub(replacement, part.data)) for part in reply.parts)
    return replace(reply, parts=parts)


def _changed_text(*, streamed: bytes, whole: bytes) -> Behaviour:
    return Behaviour(
        stream=lambda reply: _with_changed_events(reply, _TEXT, streamed),
        unary=with_changed_body(lambda body: _TEXT.sub(whole, body, count=1)),
    )


def _with_object_arguments(value: JsonObject) -> JsonObject:
    """Parse the arguments of every tool call of a completion or a chunk, in place."""
    for choice in map(as_object, as_list(value.get("choices"))):
        message = as_object(choice.get("message") or choice.get("delta"))
        for call in map(as_object, as_list(message.get("tool_calls"))):
            function = as_object(call.get("function"))
            function["arguments"] = _parsed(function.get("arguments"))
    return value


def _parsed(arguments: Json) -> Json:
    return decode(arguments.encode()) if isinstance(arguments, str) else arguments


def _stream_of_object_arguments(reply: Reply) -> AnyReply:
    def changed(part: TimedBytes) -> TimedBytes:
        if part.data == DONE or not part.data.startswith(_DATA):
            return part
        body = as_object(decode(part.data.removeprefix(_DATA)))
        return replace(part, data=event(_with_object_arguments(body)))

    return replace(reply, parts=map(changed, reply.parts))


def _with_empty_events(reply: Reply) -> AnyReply:
    """Put an event without data before every other one."""
    return replace(reply, parts=(replace(part, data=EMPTY_EVENT + part.data) for part in reply.parts))


def _in_gzip(reply: Reply) -> AnyReply:
    """Compress a stream, so that each of its parts can be read when it arrives."""

    def parts() -> Iterator[TimedBytes]:
        compressor = zlib.compressobj(wbits=GZIP_WINDOW)
        due_s = 0.0
        for part in reply.parts:
            due_s = part.due_s
            data = compressor.compress(part.data) + compressor.flush(zlib.Z_SYNC_FLUSH)
            yield replace(part, data=data)
        yield TimedBytes(data=compressor.flush(), due_s=due_s, after_last_token=True)

    return replace(reply, headers={**reply.headers, "content-encoding": "gzip"}, parts=parts())


def _body_in_gzip(reply: Reply) -> AnyReply:
    changed = with_changed_body(lambda body: zlib.compress(body, wbits=GZIP_WINDOW))(reply)
    assert isinstance(changed, Reply)  # noqa: S101  a changed body is a reply
    return replace(changed, headers={**changed.headers, "content-encoding": "gzip"})


def _as_events(reply: Reply) -> AnyReply:
    """Send a whole completion as a stream of one chunk."""
    (part,) = reply.parts
    body = as_object(decode(part.data))
    choices: list[Json] = []
    for choice in map(as_object, as_list(body.get("choices"))):
        kept: JsonObject = {name: value for name, value in choice.items() if name != "message"}
        choices.append({**kept, "delta": choice["message"]})
    chunk: JsonObject = {**body, "object": "chat.completion.chunk", "choices": choices}
    return unary_reply(event(chunk) + DONE, "text/event-stream", due_s=part.due_s, tokens=part.tokens)


_OBJECT_ARGUMENTS: Final[InjectFault] = with_changed_body(
    lambda body: encode(_with_object_arguments(as_object(decode(body))))
)

MODELS: Final = (
    SandboxModel(
        name="refusal",
        description="The text is a `refusal` instead of content.",
        behaviour=_changed_text(
            streamed=rb'"content":null,"refusal":\1', whole=rb'"content":null,"refusal":\1'
        ),
    ),
    SandboxModel(
        name="content-parts",
        description="The content is a list of text parts.",
        behaviour=_changed_text(
            streamed=rb'"content":[{"type":"text","text":\1}]',
            whole=rb'"content":[{"type":"text","text":\1}]',
        ),
    ),
    SandboxModel(
        name="object-arguments",
        description="A tool call whose arguments are an object, not a text.",
        behaviour=Behaviour(
            dialect=CALLS_WITHOUT_IDS,
            overrides=PlanOverrides(calls=1),
            stream=_stream_of_object_arguments,
            unary=_OBJECT_ARGUMENTS,
        ),
    ),
    SandboxModel(
        name="gzip",
        description="Compressed with gzip, although that was not requested.",
        behaviour=Behaviour(stream=_in_gzip, unary=_body_in_gzip),
    ),
    SandboxModel(
        name="empty-events",
        description="An event without data before every other one; unary: an ordinary completion.",
        behaviour=Behaviour(stream=_with_empty_events),
    ),
    SandboxModel(
        name="events-unrequested",
        description="A stream, even where none was requested.",
        behaviour=Behaviour(unary=_as_events),
    ),
)
