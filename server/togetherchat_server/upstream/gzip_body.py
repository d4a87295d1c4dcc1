"""Decompresses a response in gzip, within bounds.

Responses are requested without compression, and some engines and proxies compress them all the same. The
bounds: 194 KB of gzip cost a client that unpacks it 190 MB. So a piece is unpacked only when it is read,
and a body that expands more than any JSON does is rejected.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from typing import Final, final

from togetherchat_server.domain.reasons import Reason
from togetherchat_server.upstream import transport_errors

CODINGS: Final = frozenset({"gzip", "x-gzip"})
PIECE_BYTES: Final = 64 * 1024
UNCHECKED_BYTES: Final = 1024 * 1024
"""Below this size the ratio does not matter."""
RATIO_MAX: Final = 100
"""JSON and its events shrink to a fifth, repetitive ones to a fiftieth; a bomb to a thousandth."""
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS


@final
class GzipBody:
    """Reads a body that `read` returns compressed, piece by piece; `b""` is the end of both."""

    def __init__(self, read: Callable[[], Awaitable[bytes]]) -> None:
        self._read = read
        self._decoder = zlib.decompressobj(_GZIP_WINDOW)
        self._compressed_bytes = 0
        self._bytes = 0
        self._more = False
        """Whether the received bytes may unpack to more than was returned."""

    async def read(self) -> bytes:
        """Return at most `PIECE_BYTES`.

        Raises:
            ServiceError: of `read`; UPSTREAM_MALFORMED_RESPONSE; UPSTREAM_TOO_LARGE beyond the ratio.
        """
        while True:
            if self._more:
                await asyncio.sleep(0)  # for other calls: a large body must not stop the event loop
                data = self._decoder.unconsumed_tail
            else:
                data = await self._read()
                self._compressed_bytes += len(data)
                if not data and not self._decoder.eof:
                    raise transport_errors.error(Reason.UPSTREAM_MALFORMED_RESPONSE)
                if not data:
                    return b""
            piece = self._unpacked(data)
            if piece:
                return piece

    def _unpacked(self, data: bytes) -> bytes:
        try:
            piece = self._decoder.decompress(data, PIECE_BYTES)
        except zlib.error:
            raise transport_errors.error(Reason.UPSTREAM_MALFORMED_RESPONSE) from None
        if self._decoder.unused_data:
            raise transport_errors.error(Reason.UPSTREAM_MALFORMED_RESPONSE)
        self._more = len(piece) == PIECE_BYTES
        self._bytes += len(piece)
        if self._bytes > UNCHECKED_BYTES + RATIO_MAX * self._compressed_bytes:
            raise transport_errors.error(Reason.UPSTREAM_TOO_LARGE)
        return piece
