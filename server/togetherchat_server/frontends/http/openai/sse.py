"""Encodes our events as OpenAI's stream of `chat.completion.chunk`, in server-sent events.

Pure: takes the events of one read of the upstream and returns the bytes of one write. The constant
part of a stream's chunks is encoded once. A text delta, by far the most common event, is joined to
this part without creating an object.

The rules that OpenAI's clients rely on: a choice's role comes first, with empty content if there is
none; each choice finishes once; `[DONE]` means that the completion is complete.

Usage is in one place: clients such as LangChain's add up what they find. As Together sends it, that is
the chunk that finishes the last choice. With `include_usage` it is a last chunk without choices, as
OpenAI sends it; a client that did not ask for that chunk may read `choices[0]` of it and fail.
"""

from typing import Final, assert_never, final

import orjson

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.call import EventBatch
from togetherchat_server.domain.reasons import sanitise
from togetherchat_server.frontends.http.openai.functions import from_fragments
from togetherchat_server.frontends.http.openai.response import (
    Json,
    finish_reason,
    has_usage,
    logprobs,
    reasoning_field,
    usage,
)

DONE: Final = b"data: [DONE]\n\n"
KEEP_ALIVE: Final = b": keep-alive\n\n"
_TEXT: Final = b',"delta":{"content":'
_TEXT_END: Final = b'},"logprobs":null,"finish_reason":null}]'


@final
class ChunkEncoder:
    """Encodes one stream."""

    def __init__(self, *, include_usage: bool | None, alternatives: bool, functions: bool = False) -> None:
        """`include_usage`: True: usage in a chunk of its own; False: no usage; None: in the last choice.

        `functions`: a tool call is a `function_call`.
        """
        self.completed = False
        """Whether the last event has been encoded; none follows."""
        self.usage: chat.Usage | None = None
        self._include_usage = include_usage
        self._alternatives = alternatives
        self._functions = functions
        self._head = b""
        self._choices_head = b""
        self._tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._begun: set[int] = set()
        self._last_choice = b""
        """The chunk that finishes a choice, without its end: it waits for the usage of the completion."""

    def encode(self, events: EventBatch) -> bytes:
        """Return the bytes of a batch of events; a comment for an empty batch, which is a sign of life."""
        if not events:
            return KEEP_ALIVE
        return b"".join([self._event(event) for event in events])

    def _event(self, event: service.StreamCompleteResponse) -> bytes:
        kind = event.WhichOneof("event")
        match kind:
            case "delta":
                return self._delta(event.delta)
            case "started":
                return self._start(event.started)
            case "choice_finished":
                return self._finish(event.choice_finished)
            case "completed":
                return self._complete(event.completed)
            case None:
                return b""
            case _:
                assert_never(kind)

    def _start(self, started: service.Started) -> bytes:
        head: Json = {
            "id": started.id,
            "object": "chat.completion.chunk",
            "created": started.create_time.seconds,
            "model": started.model,
        }
        if started.system_fingerprint:
            head["system_fingerprint"] = started.system_fingerprint
        self._head = b"data: " + orjson.dumps(head)[:-1] + b',"choices":['
        self._choices_head = self._head + b'{"index":'
        return b""

    def _delta(self, delta: service.Delta) -> bytes:
        index = delta.choice_index
        plain = delta.text and not (delta.role or delta.reasoning or delta.tool_calls or delta.refusal)
        if plain and index in self._begun and not delta.HasField("logprobs"):
            return b"".join(
                (
                    self._choices_head,
                    b"%d" % index,
                    _TEXT,
                    orjson.dumps(delta.text),
                    _TEXT_END,
                    self._tail,
                )
            )
        body: Json = {}
        if index not in self._begun:
            self._begun.add(index)
            body |= {"role": "assistant", "content": ""}
        if delta.text:
            body["content"] = delta.text
        if delta.reasoning:
            body[reasoning_field(delta.reasoning_field)] = delta.reasoning
        if delta.refusal:
            body["refusal"] = delta.refusal
        if self._functions:
            function_call = from_fragments(delta.tool_calls)
            body |= {} if function_call is None else {"function_call": function_call}
        elif delta.tool_calls:
            body["tool_calls"] = [_tool_call_delta(fragment) for fragment in delta.tool_calls]
        token_logprobs = None
        if delta.HasField("logprobs"):
            token_logprobs = logprobs(delta.logprobs.tokens, alternatives=self._alternatives)
        return self._chunk({"index": index, "delta": body, "logprobs": token_logprobs, "finish_reason": None})

    def _finish(self, finished: service.ChoiceFinished) -> bytes:
        """Return the chunk of the choice that finished before this one, which then is not the last."""
        index = finished.choice_index
        delta: Json = {} if index in self._begun else {"role": "assistant", "content": ""}
        reason = finish_reason(finished.finish_reason, finished.finish_reason_raw, functions=self._functions)
        body: Json = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        if finished.HasField("seed"):
            body["seed"] = finished.seed
        before = self._end_of_choice(self._tail)
        self._last_choice = self._head + orjson.dumps(body) + b"]"
        return before

    def _end_of_choice(self, tail: bytes) -> bytes:
        return self._last_choice + tail if self._last_choice else b""

    def _complete(self, completed: service.Completed) -> bytes:
        self.completed = True
        self.usage = completed.usage
        # No member of a chunk can hold warnings; every client ignores comments.
        warnings = b"".join(
            b": %s\n\n" % sanitise(warning.message).encode() for warning in completed.warnings
        )
        with_usage = b',"usage":' + orjson.dumps(usage(completed.usage)) + b"}\n\n"
        if self._include_usage is None and has_usage(completed.usage):
            return self._end_of_choice(with_usage) + warnings + DONE
        usage_chunk = self._head + b"]" + with_usage if self._include_usage else b""
        return self._end_of_choice(self._tail) + warnings + usage_chunk + DONE

    def _chunk(self, choice: Json) -> bytes:
        return self._head + orjson.dumps(choice) + b"]" + self._tail


def error_event(body: bytes) -> bytes:
    """Return the last event of a stream that failed. Clients look for `error` in the data."""
    return b"data: " + body + b"\n\n"


def _tool_call_delta(fragment: service.ToolCallDelta) -> Json:
    """Encode a fragment of a tool call: id and name come in the first one, arguments in every one."""
    if fragment.id or fragment.name:
        function = {"name": fragment.name, "arguments": fragment.arguments}
        return {"index": fragment.index, "id": fragment.id, "type": "function", "function": function}
    return {"index": fragment.index, "function": {"arguments": fragment.arguments}}
