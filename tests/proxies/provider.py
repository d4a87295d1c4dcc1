"""What the provider behind the service sends in these tests."""

import asyncio

from support import openai
from support.upstream_script import Fin, Pause, Send, chunk, json_response, sse, sse_event, sse_head

RELEASED_S = 1.0
"""A cancelled call must release the provider within this time."""
TOKENS = [f"token-{number} " for number in range(6)]
COMPLETION = json_response(200, openai.completion("Hello"))
STREAM = sse([openai.chunk("Hel"), openai.chunk("lo", finish_reason="stop"), openai.DONE])
FIRST_TOKEN = Send(sse_head() + sse_event(openai.chunk("Hel")))
LAST_TOKEN = (
    Send(sse_event(openai.chunk("lo", finish_reason="stop")) + sse_event(openai.DONE) + chunk(b"")),
)
BROKEN = (FIRST_TOKEN, Fin())
# gRPC sends each of these characters, of four bytes in UTF-8, as twelve.
LONG_STATUS = json_response(400, openai.error("\U0001f600" * 1000))


def released_one_by_one():
    """Return a stream of tokens, and the event that releases each of them."""
    events = [asyncio.Event() for _ in TOKENS]
    steps = [Send(sse_head())]
    for event, token in zip(events, TOKENS, strict=True):
        steps += [Pause(event), Send(sse_event(openai.chunk(token)))]
    end = sse_event(openai.chunk(finish_reason="stop")) + sse_event(openai.DONE) + chunk(b"")
    return [*steps, Send(end)], events
