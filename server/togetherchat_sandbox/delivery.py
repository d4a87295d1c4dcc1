"""Sends a reply: waits until each part is due, sends what is due together, then ends the connection.

Owns the only waiting in the sandbox. Its caller cancels it when the client disconnects.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.types import Send

from togetherchat_sandbox.connection import SandboxConnection
from togetherchat_sandbox.reply import AnyReply, Reply, ReplyEnd, TimedBytes
from togetherchat_sandbox.request_log import Ended, LoggedRequest, RequestLog

WRITE_BYTES_MAX: Final = 64 * 1024


async def deliver(
    reply: AnyReply, send: Send, connection: SandboxConnection, request_log: RequestLog, entry: LoggedRequest
) -> None:
    """Send `reply`, keeping `entry` up to date."""
    if isinstance(reply, Reply):
        await _ReplySender(reply, send, request_log, entry).send(asyncio.get_running_loop().time)
    match reply.end:
        case ReplyEnd.COMPLETE:
            request_log.set_ended(entry, Ended.COMPLETE)
            return
        case ReplyEnd.CLOSE:
            request_log.set_ended(entry, Ended.ABORTED_BY_SANDBOX)
            connection.close()
        case ReplyEnd.RESET:
            request_log.set_ended(entry, Ended.ABORTED_BY_SANDBOX)
            connection.reset()
        case ReplyEnd.STALL:
            pass
    # Until the lost connection cancels this.
    await asyncio.Event().wait()


class _ReplySender:
    """Sends one reply; holds the bytes that are due and not yet sent."""

    def __init__(self, reply: Reply, send: Send, request_log: RequestLog, entry: LoggedRequest) -> None:
        self._reply = reply
        self._send = send
        self._request_log = request_log
        self._entry = entry
        self._buffer = bytearray()
        self._tokens = 0
        self._started = False

    async def send(self, clock: Callable[[], float]) -> None:
        start = clock()
        for part in self._reply.parts:
            wait_s = start + part.due_s - clock()
            if wait_s > 0:
                await self._flush()
                await asyncio.sleep(wait_s)
            self._add(part)
            if len(self._buffer) >= WRITE_BYTES_MAX:
                await self._flush()
                await asyncio.sleep(0)
        await self._flush()
        await self._start()
        if self._reply.end is ReplyEnd.COMPLETE:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def _add(self, part: TimedBytes) -> None:
        self._buffer += part.data
        self._tokens += part.tokens

    async def _flush(self) -> None:
        if not self._buffer:
            return
        await self._start()
        data, tokens = bytes(self._buffer), self._tokens
        self._buffer.clear()
        self._tokens = 0
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self._entry.tokens_sent += tokens

    async def _start(self) -> None:
        if self._started:
            return
        self._started = True
        self._request_log.reply_started(self._entry, self._reply.status)
        headers = [(name.encode(), value.encode()) for name, value in self._reply.headers.items()]
        if self._reply.length is not None:
            headers.append((b"content-length", str(self._reply.length).encode()))
        await self._send({"type": "http.response.start", "status": self._reply.status, "headers": headers})
