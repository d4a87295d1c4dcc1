"""The PROXY protocol, version 2: a binary header with which a proxy reports its client's address.

A load balancer that forwards TCP sends it before the first byte of the connection. It is only read from a
trusted proxy. The specification: https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt
"""

import socket
from http import HTTPStatus
from typing import Final, TypeAlias, final

from togetherchat_server.frontends.http.protocol.request_body import BadRequestError

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
ADDRESSES_BYTES_MAX: Final = 4096
"""Limit of the addresses and of the extensions after them, which are skipped."""

_FIXED_BYTES: Final = len(SIGNATURE) + 4
_LOCAL, _PROXY = 0x20, 0x21
# Family and length of an address, by the byte that names the family and the transport (TCP).
_FAMILIES: Final = {0x11: (socket.AF_INET, 4), 0x21: (socket.AF_INET6, 16)}

ClientAddress: TypeAlias = tuple[str, int]


@final
class ProxyHeader:
    """An incrementally parsed header, which may be missing."""

    __slots__ = ("_data", "client")

    def __init__(self) -> None:
        self.client: ClientAddress | None = None
        """Host and port of the proxy's client; None if there is no header or the header has no address."""
        self._data = b""

    def feed(self, data: bytes) -> bytes | None:
        """Return the bytes after the header, all of them if there is none; None while more are needed.

        Raises:
            BadRequestError: the header is malformed.
        """
        self._data = data = self._data + data
        if not data.startswith(SIGNATURE[: len(data)]):
            return data
        if len(data) < _FIXED_BYTES:
            return None
        command, family = data[len(SIGNATURE)], data[len(SIGNATURE) + 1]
        length = int.from_bytes(data[_FIXED_BYTES - 2 : _FIXED_BYTES])
        if command not in {_LOCAL, _PROXY} or length > ADDRESSES_BYTES_MAX:
            raise _malformed()
        end = _FIXED_BYTES + length
        if len(data) < end:
            return None
        if command == _PROXY and family in _FAMILIES:
            self.client = _source(data[_FIXED_BYTES:end], *_FAMILIES[family])
        return data[end:]


def _source(addresses: bytes, family: int, length: int) -> ClientAddress:
    """Return the source: both addresses come first, then both ports."""
    if len(addresses) < 2 * length + 4:
        raise _malformed()
    port = int.from_bytes(addresses[2 * length : 2 * length + 2])
    return socket.inet_ntop(family, addresses[:length]), port


def _malformed() -> BadRequestError:
    return BadRequestError(HTTPStatus.BAD_REQUEST, "the header of the PROXY protocol is malformed")
