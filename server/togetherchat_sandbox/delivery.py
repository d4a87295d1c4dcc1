"""Sends a reply: waits until each piece is due, writes what is due together in one go, ends as told.

Owns the only waiting in the sandbox. When the client hangs up, the server cancels this, whatever it
is doing; a reply that was not over by then is the client's doing in the ledger.
"""

import asyncio
import socket
import struct
from collections.abc import Callable

from aiohttp import web

from togetherchat_sandbox.ledger import Ended, Entry, Ledger
from togetherchat_sandbox.reply import Ending, NoReply, Outcome, Piece, Reply

WRITE_BYTES_MAX = 64 * 1024

_NO_LINGER = struct.pack("ii", 1, 0)


async def deliver(
    outcome: Outcome, request: web.BaseRequest, ledger: Ledger, entry: Entry
) -> web.StreamResponse:
    """Send `outcome` as the answer to `request`, keeping `entry` up to date."""
    if isinstance(outcome, NoReply):
        await _leave(outcome.ending, request, ledger, entry)
        return web.Response(status=500)
    sending = _Sending(outcome, request, ledger, entry)
    await sending.pieces(asyncio.get_running_loop().time)
    if outcome.ending is Ending.CLEAN:
        await sending.finish()
    else:
        await _leave(outcome.ending, request, ledger, entry)
    return sending.response


class _Sending:
    """One reply on its way: the bytes that are due and not yet written."""

    def __init__(self, reply: Reply, request: web.BaseRequest, ledger: Ledger, entry: Entry) -> None:
        self._reply = reply
        self._request = request
        self._ledger = ledger
        self._entry = entry
        self._buffer = bytearray()
        self._tokens = 0
        self.response = web.StreamResponse(status=reply.status, headers=reply.headers)
        if reply.length is not None:
            self.response.content_length = reply.length

    async def pieces(self, clock: Callable[[], float]) -> None:
        start = clock()
        for piece in self._reply.pieces:
            wait_s = start + piece.due_s - clock()
            if wait_s > 0:
                await self._flush()
                await asyncio.sleep(wait_s)
            self._add(piece)
            if len(self._buffer) >= WRITE_BYTES_MAX:
                await self._flush()
                await asyncio.sleep(0)
        await self._flush()
        await self._start()

    async def finish(self) -> None:
        await self.response.write_eof()
        self._ledger.end(self._entry, Ended.COMPLETE)

    def _add(self, piece: Piece) -> None:
        self._buffer += piece.data
        self._tokens += piece.tokens

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
            self._ledger.begin(self._entry, self._reply.status)
            await self.response.prepare(self._request)


async def _leave(ending: Ending, request: web.BaseRequest, ledger: Ledger, entry: Entry) -> None:
    """End in the way of `ending`, then wait for the cancellation that a lost connection brings."""
    transport = request.transport
    if ending is not Ending.SILENCE:
        ledger.end(entry, Ended.ABORTED_BY_SANDBOX)
    if transport is not None and ending is Ending.CUT:
        transport.close()
    if transport is not None and ending is Ending.RESET:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        transport.abort()
    await asyncio.Event().wait()
