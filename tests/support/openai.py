"""Builds what a provider with OpenAI's API returns: completions, chunks, usage, errors, and their SSE.

Bodies are dictionaries, so that a test can change them; `support.upstream_script` sends them.

    json_response(200, openai.completion("Hi", usage=openai.usage(3, 1)))
    sse([openai.chunk("Hi"), openai.chunk(finish_reason="stop"), openai.DONE])
"""

import json
from typing import Any

Json = dict[str, Any]

DONE = "[DONE]"
HEAD: Json = {"id": "oid-1", "created": 1, "model": "m"}


def completion(text: str | None = "Hi", *, finish_reason: str = "stop", **fields: Any) -> Json:
    """The body of a unary response with one choice; `fields` replace or extend its top level."""
    message = {"role": "assistant", "content": text}
    return {**HEAD, "choices": [choice(message, finish_reason=finish_reason)], **fields}


def choice(message: Json, *, index: int = 0, finish_reason: str = "stop", **fields: Any) -> Json:
    """One choice of a unary response."""
    return {"index": index, "message": message, "finish_reason": finish_reason, **fields}


def chunk(
    text: str | None = "",
    *,
    index: int = 0,
    finish_reason: str | None = None,
    delta: Json | None = None,
    **fields: Any,
) -> Json:
    """The data of one event of a stream; `delta` replaces the delta with `text`."""
    content = {"role": "assistant", "content": text} if delta is None else delta
    one = {"index": index, "delta": content, "finish_reason": finish_reason}
    return {**HEAD, "object": "chat.completion.chunk", "choices": [one], **fields}


def usage(prompt_tokens: int = 3, completion_tokens: int = 2, **fields: Any) -> Json:
    """Token counts."""
    total = prompt_tokens + completion_tokens
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": total,
        **fields,
    }


def tool_call(name: str, arguments: str = "{}", *, index: int = 0, call_id: str = "call_1") -> Json:
    """A tool call, or in a stream its first fragment."""
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": call_id, "type": "function", "function": function}


def error(message: str = "Something is wrong.", **fields: Any) -> Json:
    """The body of an error; `fields` replace or extend its `type`, `param` and `code`."""
    shape = {"message": message, "type": "invalid_request_error", "param": None, "code": None, **fields}
    return {"id": "oid-1", "error": shape}


def model(name: str, **fields: Any) -> Json:
    """One model of the provider's list."""
    return {"id": name, "object": "model", "created": 0, "type": "chat", **fields}


def dumps(body: Json) -> bytes:
    """The body as JSON."""
    return json.dumps(body).encode()


def event(data: Json | str | bytes) -> bytes:
    """One server-sent event: a body, or `DONE`."""
    if isinstance(data, dict):
        data = dumps(data)
    return b"data: %s\n\n" % (data.encode() if isinstance(data, str) else data)


def stream(*texts: str, finish_reason: str = "stop", **last_fields: Any) -> list[Json | str]:
    """The events of a stream of these texts: a chunk each, the last one with a finish reason, and `DONE`."""
    last = chunk("", finish_reason=finish_reason, **last_fields)
    return [*(chunk(text) for text in texts), last, DONE]
