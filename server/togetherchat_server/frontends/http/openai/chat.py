"""`POST /v1/chat/completions`: read the request, ask the port, write the answer.

The official clients say how long they wait for a whole answer. That is the call's deadline: it
is answered shortly before, with a status that they do not retry, where their own timer would
send the same conversation once more. Of a stream they wait so long for its beginning alone,
and when they leave then, they are noticed: there it is no deadline.
"""

import math
from typing import Final, final

from togetherchat_server.calls.session import response_metadata
from togetherchat_server.domain.ports import Chat
from togetherchat_server.frontends.http.exchange import JSON, STREAM_HEADERS
from togetherchat_server.frontends.http.handler import HttpCall
from togetherchat_server.frontends.http.openai import request as openai_request
from togetherchat_server.frontends.http.openai.request import ChatRequest
from togetherchat_server.frontends.http.openai.response import completion
from togetherchat_server.frontends.http.openai.sse import ChunkWriter

METHOD: Final = "chat.completions"
# Node's client and Python's, in seconds.
PATIENCE_HEADERS: Final = ("x-stainless-timeout", "x-stainless-read-timeout")
# Their timers start before they connect.
HEAD_START_S: Final = 0.25
HEAD_START_SHARE: Final = 0.1
IGNORED_HEADER: Final = "x-togetherchat-ignored"
IGNORED_CHARACTERS_MAX: Final = 1024


@final
class ChatEndpoint:
    """The conversation."""

    def __init__(self, chat: Chat, *, max_request_bytes: int, request_read_timeout_s: float) -> None:
        self._chat = chat
        self._request_bytes_max = max_request_bytes
        self._request_s = request_read_timeout_s

    async def answer(self, http_call: HttpCall) -> None:
        body = await http_call.exchange.body(bytes_max=self._request_bytes_max, within_s=self._request_s)
        inquiry = openai_request.read(body)
        if inquiry.stream:
            async with http_call.open():
                await self._stream(inquiry, http_call)
        else:
            async with http_call.open(_patience_s(http_call.exchange.headers)):
                await self._complete(inquiry, http_call)

    async def _complete(self, inquiry: ChatRequest, http_call: HttpCall) -> None:
        response = await self._chat.complete(inquiry.request, http_call.call)
        http_call.usage = response.usage
        http_call.messages_sent = 1
        body = completion(response, alternatives=inquiry.alternatives)
        headers = (("content-type", JSON), *response_metadata(http_call.call), *_ignored(inquiry))
        await http_call.exchange.answer(200, headers, body)

    async def _stream(self, inquiry: ChatRequest, http_call: HttpCall) -> None:
        exchange = http_call.exchange
        chunks = ChunkWriter(include_usage=inquiry.include_usage, alternatives=inquiry.alternatives)
        async with self._chat.stream(inquiry.request, http_call.call) as batches:
            async for events in batches:
                data = chunks.written(events)
                if not exchange.started:
                    headers = (*STREAM_HEADERS, *response_metadata(http_call.call), *_ignored(inquiry))
                    await exchange.start(200, headers)
                http_call.messages_sent += len(events)
                if chunks.whole:
                    http_call.usage = chunks.usage
                    await exchange.end(data)
                else:
                    await exchange.write(data)


def _patience_s(headers: dict[str, str]) -> float | None:
    for name in PATIENCE_HEADERS:
        try:
            seconds = float(headers.get(name, ""))
        except ValueError:
            continue
        if seconds > 0 and math.isfinite(seconds):
            return seconds - min(HEAD_START_S, HEAD_START_SHARE * seconds)
    return None


def _ignored(inquiry: ChatRequest) -> tuple[tuple[str, str], ...]:
    """The names, which are the caller's own text: what a header cannot carry becomes a question mark."""
    if not inquiry.ignored:
        return ()
    text = ", ".join(inquiry.ignored)[:IGNORED_CHARACTERS_MAX]
    plain = "".join(one if " " <= one <= "~" else "?" for one in text)
    return ((IGNORED_HEADER, plain.strip()),)
