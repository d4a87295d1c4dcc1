"""The CONNECT request to an HTTP proxy (RFC 9110, 9.3.6), and the head of its response. No I/O."""

import base64
import re
from typing import Final, final

from togetherchat_server.config.proxy import Proxy
from togetherchat_server.domain.reasons import Reason, ServiceError

HEAD_BYTES_MAX: Final = 16 * 1024
PROXY_AUTHENTICATION_REQUIRED: Final = 407
UNAUTHORIZED: Final = 401
"""What tinyproxy sends for wrong credentials. In the response to CONNECT it cannot be the provider's."""
UNREACHABLE: Final = "the connection to the egress proxy failed"
REJECTS_CREDENTIALS: Final = "the egress proxy rejects this service's credentials"
REJECTS_PROVIDER: Final = "the egress proxy does not allow connections to the provider"
CANNOT_CONNECT: Final = "the egress proxy cannot connect to the provider"
UNREADABLE: Final = "the egress proxy's response could not be read"

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)(?: [^\r\n]*)?\r?\n")
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
_INFORMATIONAL: Final = range(100, 200)
_SUCCESSFUL: Final = range(200, 300)
_CLIENT_ERROR: Final = range(400, 500)


def failed(message: str) -> ServiceError:
    """Return the error of a connection through a proxy. The provider has received nothing."""
    return ServiceError(Reason.UPSTREAM_CONNECT_FAILED, message)


def authorization(proxy: Proxy) -> tuple[tuple[bytes, bytes], ...]:
    """Return the header with the user and the password of a proxy, if it has them (RFC 7617)."""
    if not proxy.has_credentials:
        return ()
    pair = base64.b64encode(f"{proxy.user}:{proxy.password}".encode("ascii"))
    return ((b"Proxy-Authorization", b"Basic " + pair),)


def connect_request(host: str, port: int, proxy: Proxy) -> bytes:
    """Return the request for a tunnel to a host, which the proxy resolves."""
    name = f"[{host}]" if ":" in host else host
    target = f"{name}:{port}".encode("ascii")
    lines = [b"CONNECT " + target + b" HTTP/1.1", b"Host: " + target]
    lines += [name + b": " + value for name, value in authorization(proxy)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


@final
class ConnectResponse:
    """Reads the response. It is over with its head: what follows belongs to the tunnel."""

    def __init__(self) -> None:
        self.is_complete = False
        self._received = b""

    def feed(self, data: bytes) -> None:
        """Add bytes that arrived. Bytes beyond the head are an error: in TLS the client begins.

        Raises:
            ServiceError: UPSTREAM_CONNECT_FAILED, the proxy gives no tunnel, or it does not speak HTTP.
        """
        self._received += data
        while not self.is_complete and (end := _HEAD_END.search(self._received)) is not None:
            head, self._received = self._received[: end.end()], self._received[end.end() :]
            status = _status(head)
            if status in _INFORMATIONAL:
                continue
            if status not in _SUCCESSFUL:
                raise failed(_problem(status))
            self.is_complete = True
        if len(self._received) > (0 if self.is_complete else HEAD_BYTES_MAX):
            raise failed(UNREADABLE)

    def end(self) -> None:
        """Record that the proxy closed the connection.

        Raises:
            ServiceError: UPSTREAM_CONNECT_FAILED, the response is incomplete.
        """
        if not self.is_complete:
            raise failed(UNREADABLE if self._received else CANNOT_CONNECT)


def _status(head: bytes) -> int:
    line = _STATUS_LINE.match(head)
    if line is None:
        raise failed(UNREADABLE)
    return int(line[1])


def _problem(status: int) -> str:
    if status in {PROXY_AUTHENTICATION_REQUIRED, UNAUTHORIZED}:
        return REJECTS_CREDENTIALS
    return REJECTS_PROVIDER if status in _CLIENT_ERROR else CANNOT_CONNECT
