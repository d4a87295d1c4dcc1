"""Connects sockets through a SOCKS5 proxy (RFC 1928), with python-socks, the extra `socks`.

The proxy resolves the host's name, as with an HTTP proxy: `socks5` means the same as `socks5h`.
"""

import socket
from typing import TYPE_CHECKING, Final, final

from togetherchat_server.config.proxy import Proxy
from togetherchat_server.upstream import proxy_connect

if TYPE_CHECKING:
    from python_socks.async_.asyncio import Proxy as Client

NOT_ALLOWED: Final = 2
"""The reply of a proxy whose rules forbid the connection."""
TIMEOUT_S: Final = 600.0
"""Never reached: the pool bounds the time. Without one the library's own default would apply."""


@final
class SocksConnector:
    """Connects sockets to hosts through one proxy. Has the `connect` of a `Resolver`."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    async def connect(self, host: str, port: int) -> socket.socket:
        """Return a socket that the proxy has connected to a host.

        Raises:
            ServiceError: UPSTREAM_CONNECT_FAILED.
        """
        # Imported on use: an optional dependency.
        from python_socks import ProxyConnectionError, ProxyError  # noqa: PLC0415

        try:
            return await self._client().connect(host, port, timeout=TIMEOUT_S)
        except ProxyConnectionError as exc:
            raise proxy_connect.failed(proxy_connect.UNREACHABLE) from exc
        except ProxyError as exc:
            # Its text is not quoted: it is the proxy's.
            rejected = exc.error_code == NOT_ALLOWED
            message = proxy_connect.REJECTS_PROVIDER if rejected else proxy_connect.CANNOT_CONNECT
            raise proxy_connect.failed(message) from None

    def _client(self) -> "Client":
        from python_socks import ProxyType  # noqa: PLC0415  as above
        from python_socks.async_.asyncio import Proxy as Client  # noqa: PLC0415  as above

        proxy = self._proxy
        credentials = (proxy.user, proxy.password) if proxy.has_credentials else (None, None)
        return Client(ProxyType.SOCKS5, proxy.host, proxy.port, *credentials)
