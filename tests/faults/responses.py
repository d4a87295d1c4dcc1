"""Valid responses of an upstream, and the parts from which faults are built."""

from support import openai
from support.openai import DONE
from support.upstream_script import Pause, Send, json_response, sse, sse_head
from support.upstream_script import sse_event as event

__all__ = [
    "DONE",
    "chunk_json",
    "completion",
    "drip",
    "error_response",
    "event",
    "stream_start",
    "valid_response",
    "wants_stream",
]

completion = openai.completion


def chunk_json(text="Hi", finish=None, **fields):
    """One event of a stream, as JSON."""
    return openai.dumps(openai.chunk(text, finish_reason=finish, **fields)).decode()


def stream_start(*events):
    """The head of a stream and its first events."""
    return Send(sse_head() + b"".join(event(one) for one in events))


def wants_stream(received):
    return b'"stream":true' in received.body.replace(b" ", b"")


def valid_response(received):
    """A script: a valid unary response or a valid stream, as requested."""
    return sse(openai.stream("Hi")) if wants_stream(received) else json_response(200, openai.completion())


def drip(data, *, every_s):
    """Steps that send one byte at a time, with a pause before each."""
    return [step for byte in data for step in (Pause(every_s), Send(bytes((byte,))))]


def error_response(status, *, message="Something is wrong.", headers=None, **fields):
    """A status with an error in the provider's format."""
    return json_response(status, openai.error(message, **{"type": "x", **fields}), headers)
