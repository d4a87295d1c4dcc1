"""Sends a reply: waits until each part is due, writes what is due together in one go, ends as told.

Owns the only waiting in the sandbox. When the client hangs up, the server cancels this, whatever it
is doing; a reply that was not over by then is the client's doing in the request log.
"""

import asyncio
import socket
import struct
from collections.abc import Callable

from aiohttp import web

from togetherchat_sandbox.reply import AnyReply, NoReply, Reply, ReplyEnd, TimedBytes
from togetherchat_sandbox.request_log import Ended, LoggedRequest, RequestLog

WRITE_BYTES_MAX = 64 * 1024

_NO_LINGER = struct.pack("ii", 1, 0)


async def deliver(
    reply: AnyReply, request: web.BaseRequest, request_log: RequestLog, entry: LoggedRequest
) -> web.StreamResponse:
    """Send `reply` as the answer to `request`, keeping `entry` up to date."""
    if isinstance(reply, NoReply):
        await _leave(reply.end, request, request_log, entry)
        return web.Response(status=500)
    sending = _ReplySender(reply, request, request_log, entry)
    await sending.parts(asyncio.get_running_loop().time)
    if reply.end is ReplyEnd.COMPLETE:
        await sending.finish()
    else:
        await _leave(reply.end, request, request_log, entry)
    return sending.response


class _ReplySender:
    """One reply on its way: the bytes that are due and not yet written."""

    def __init__(
        self, reply: Reply, request: web.BaseRequest, request_log: RequestLog, entry: LoggedRequest
    ) -> None:
        self._reply = reply
        self._request = request
        self._request_log = request_log
        self._entry = entry
        self._buffer = bytearray()
        self._tokens = 0
        self.response = web.StreamResponse(status=reply.status, headers=reply.headers)
        if reply.length is not None:
            self.response.content_length = reply.length

    async def parts(self, clock: Callable[[], float]) -> None:
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

    async def finish(self) -> None:
        await self.response.write_eof()
        self._request_log.set_ended(self._entry, Ended.COMPLETE)

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
        await self.response.write(data)
        self._entry.tokens_sent += tokens

    async def _start(self) -> None:
        if not self.response.prepared:
            self._request_log.reply_started(self._entry, self._reply.status)
            await self.response.prepare(self._request)


async def _leave(
    end: ReplyEnd, request: web.BaseRequest, request_log: RequestLog, entry: LoggedRequest
) -> None:
    """End in the way of `end`, then wait for the cancellation that a lost connection brings."""
    transport = request.transport
    if end is not ReplyEnd.STALL:
        request_log.set_ended(entry, Ended.ABORTED_BY_SANDBOX)
    if transport is not None and end is ReplyEnd.CLOSE:
        transport.close()
    if transport is not None and end is ReplyEnd.RESET:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        transport.abort()
    await asyncio.Event().wait()
