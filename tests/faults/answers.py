"""What an upstream says that is well, and the pieces that faults are made of."""

import json

from support.upstream_script import Pause, Send, chunk, json_answer, sse, sse_head

DONE = "[DONE]"


def whole(text="Hi", **fields):
    """The body of a whole answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": "oid-1", "created": 1, "model": "m", "choices": [choice], **fields}


def piece(text="Hi", finish=None, **fields):
    """One event of a stream, as JSON."""
    choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": finish}
    return json.dumps({"id": "oid-1", "created": 1, "model": "m", "choices": [choice], **fields})


def event(data):
    """One event, framed for SSE and for HTTP."""
    return chunk(b"data: %s\n\n" % (data if isinstance(data, bytes) else data.encode()))


def begun(*pieces):
    """The head of a stream and its first events."""
    return Send(sse_head() + b"".join(event(one) for one in pieces))


def wants_stream(asked):
    return b'"stream":true' in asked.body.replace(b" ", b"")


def well(asked):
    """A script: a whole answer or a stream, whichever was asked for."""
    if wants_stream(asked):
        return sse([piece("Hi"), piece("", "stop"), DONE])
    return json_answer(200, whole())


def drip(data, *, every_s):
    """One byte at a time, with a pause before each."""
    return [step for byte in data for step in (Pause(every_s), Send(bytes((byte,))))]


def told(status, *, message="Something is wrong.", headers=None, **fields):
    """A status with an error in the provider's form."""
    error = {"message": message, "type": "x", "param": None, "code": None, **fields}
    return json_answer(status, {"id": "oid-1", "error": error}, headers)
