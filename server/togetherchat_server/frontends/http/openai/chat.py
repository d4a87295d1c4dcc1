"""`POST /v1/chat/completions`: translates the request, runs it, and writes the response.

OpenAI's clients send how long they wait for a complete response. That is the call's deadline: the
call ends shortly before it, with a status that the clients do not retry. If their own timer fired
first, they would send the same request again. For a stream this time only bounds the wait for its
beginning, and a client that gives up disconnects, which the service detects: so a stream gets no
deadline from it.
"""

import asyncio
import math
from typing import Final, final

from togetherchat_server.calls.response_metadata import ResponseMetadata, response_metadata
from togetherchat_server.calls.session import Session
from togetherchat_server.calls.validation.elements import SCANNED_BYTES
from togetherchat_server.domain.identity import Scope
from togetherchat_server.frontends.http.exchange import STREAM_HEADERS
from togetherchat_server.frontends.http.handler import HttpCall, HttpLimits, Operation
from togetherchat_server.frontends.http.openai import request as openai_request
from togetherchat_server.frontends.http.openai.json_elements import json_elements
from togetherchat_server.frontends.http.openai.request import TranslatedRequest
from togetherchat_server.frontends.http.openai.response import completion
from togetherchat_server.frontends.http.openai.schema import parse_request
from togetherchat_server.frontends.http.openai.sse import ChunkEncoder
from togetherchat_server.frontends.http.stream_heartbeat import StreamHeartbeat
from togetherchat_server.frontends.http.unread_bodies import UnreadBodies

METHOD: Final = Operation(name="chat.completions", scope=Scope.CHAT)
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

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._unread = UnreadBodies(bytes_max=limits.max_unread_bytes)

    async def handle(self, http_call: HttpCall) -> None:
        exchange, session = http_call.exchange, http_call.session
        body = await exchange.body(
            bytes_max=self._limits.max_request_bytes,
            timeout_s=self._limits.request_read_timeout_s,
            unread=self._unread,
            client=session.call.client_address,
        )
        if len(body) <= SCANNED_BYTES:
            translated = openai_request.read(body, allowed_members=session.allowed_members)
        else:
            translated = await _read_large(body, session)
        if translated.stream:
            async with session.deadline():
                await _stream(translated, http_call, self._limits.heartbeat_s)
        else:
            async with session.deadline(_client_timeout_s(exchange.headers)):
                response = await session.complete(translated.request)
                completed = completion(
                    response, alternatives=translated.alternatives, functions=translated.functions
                )
                await http_call.respond(completed, _ignored_header(translated))


async def _read_large(body: bytes, session: Session) -> TranslatedRequest:
    """Read a large body in steps, between which other work of the event loop has its turn."""
    await session.check_elements(json_elements(body))
    parsed = parse_request(body)
    await asyncio.sleep(0)
    translated = openai_request.translate(parsed, allowed_members=session.allowed_members)
    await asyncio.sleep(0)
    return translated


async def _stream(translated: TranslatedRequest, http_call: HttpCall, heartbeat_s: float | None) -> None:
    exchange, session = http_call.exchange, http_call.session
    encoder = ChunkEncoder(
        include_usage=translated.include_usage,
        alternatives=translated.alternatives,
        functions=translated.functions,
    )

    def headers() -> ResponseMetadata:
        return (*STREAM_HEADERS, *response_metadata(session.call), *_ignored_header(translated))

    heartbeat = StreamHeartbeat(exchange, heartbeat_s, headers=headers)
    async with heartbeat, session.stream(translated.request) as batches:
        async for events in batches:
            data = encoder.encode(events)
            await heartbeat.start()
            # Once the session knows of the last event, a deadline is not a failure any more: wait before.
            await exchange.drained()
            for event in events:
                session.sending(event)
            if encoder.completed:
                await exchange.end(data)
            else:
                await exchange.write(data)
                heartbeat.sent()


def _client_timeout_s(headers: dict[str, str]) -> float | None:
    for name in TIMEOUT_HEADERS:
        try:
            seconds = float(headers.get(name, ""))
        except ValueError:
            continue
        if seconds > 0 and math.isfinite(seconds):
            return seconds - min(TIMER_LEAD_S, TIMER_LEAD_RATIO * seconds)
    return None


def _ignored_header(translated: TranslatedRequest) -> ResponseMetadata:
    """Return the names. They are the caller's text: a character that a header cannot carry becomes `?`."""
    if not translated.ignored:
        return ()
    text = ", ".join(translated.ignored)[:IGNORED_CHARACTERS_MAX]
    plain = "".join(character if " " <= character <= "~" else "?" for character in text)
    return ((IGNORED_HEADER, plain.strip()),)
