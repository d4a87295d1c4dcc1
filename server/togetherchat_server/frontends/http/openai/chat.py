"""`POST /v1/chat/completions`: translates the request, runs it, and writes the response.

OpenAI's clients send how long they wait for a complete response. That is the call's deadline: the
call ends shortly before it, with a status that the clients do not retry. If their own timer fired
first, they would send the same request again. For a stream this time only bounds the wait for its
beginning, and a client that gives up disconnects, which the service detects: so a stream gets no
deadline from it.
"""

import math
from typing import Final, final

from togetherchat_server.calls.session import response_metadata
from togetherchat_server.domain.ports import Chat
from togetherchat_server.frontends.http.exchange import JSON, STREAM_HEADERS
from togetherchat_server.frontends.http.handler import HttpCall
from togetherchat_server.frontends.http.openai import request as openai_request
from togetherchat_server.frontends.http.openai.request import TranslatedRequest
from togetherchat_server.frontends.http.openai.response import completion
from togetherchat_server.frontends.http.openai.sse import ChunkEncoder

METHOD: Final = "chat.completions"
# Of the clients for Node and for Python, in seconds.
TIMEOUT_HEADERS: Final = ("x-stainless-timeout", "x-stainless-read-timeout")
# The clients start their timers before they connect.
TIMER_LEAD_S: Final = 0.25
TIMER_LEAD_RATIO: Final = 0.1
IGNORED_HEADER: Final = "x-togetherchat-ignored"
IGNORED_CHARACTERS_MAX: Final = 1024


@final
class ChatEndpoint:
    """Serves chat completions, whole or streamed."""

    def __init__(self, chat: Chat, *, max_request_bytes: int, request_read_timeout_s: float) -> None:
        self._chat = chat
        self._max_request_bytes = max_request_bytes
        self._request_read_timeout_s = request_read_timeout_s

    async def handle(self, http_call: HttpCall) -> None:
        body = await http_call.exchange.body(
            bytes_max=self._max_request_bytes, timeout_s=self._request_read_timeout_s
        )
        translated = openai_request.read(body)
        if translated.stream:
            async with http_call.open():
                await self._stream(translated, http_call)
        else:
            async with http_call.open(_client_timeout_s(http_call.exchange.headers)):
                await self._complete(translated, http_call)

    async def _complete(self, translated: TranslatedRequest, http_call: HttpCall) -> None:
        response = await self._chat.complete(translated.request, http_call.call)
        http_call.usage = response.usage
        http_call.messages_sent = 1
        body = completion(response, alternatives=translated.alternatives)
        headers = (("content-type", JSON), *response_metadata(http_call.call), *_ignored_header(translated))
        await http_call.exchange.respond(200, headers, body)

    async def _stream(self, translated: TranslatedRequest, http_call: HttpCall) -> None:
        exchange = http_call.exchange
        encoder = ChunkEncoder(include_usage=translated.include_usage, alternatives=translated.alternatives)
        async with self._chat.stream(translated.request, http_call.call) as batches:
            async for events in batches:
                data = encoder.encode(events)
                if not exchange.started:
                    headers = (
                        *STREAM_HEADERS,
                        *response_metadata(http_call.call),
                        *_ignored_header(translated),
                    )
                    await exchange.start(200, headers)
                http_call.messages_sent += len(events)
                if encoder.completed:
                    http_call.usage = encoder.usage
                    await exchange.end(data)
                else:
                    await exchange.write(data)


def _client_timeout_s(headers: dict[str, str]) -> float | None:
    for name in TIMEOUT_HEADERS:
        try:
            seconds = float(headers.get(name, ""))
        except ValueError:
            continue
        if seconds > 0 and math.isfinite(seconds):
            return seconds - min(TIMER_LEAD_S, TIMER_LEAD_RATIO * seconds)
    return None


def _ignored_header(translated: TranslatedRequest) -> tuple[tuple[str, str], ...]:
    """Return the names. They are the caller's text: a character that a header cannot carry becomes `?`."""
    if not translated.ignored:
        return ()
    text = ", ".join(translated.ignored)[:IGNORED_CHARACTERS_MAX]
    plain = "".join(character if " " <= character <= "~" else "?" for character in text)
    return ((IGNORED_HEADER, plain.strip()),)
