"""Binds a gRPC server to an address, with the meaning that the address has for every listener."""

import errno
import os
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from grpc import aio

from togetherchat_server.config.listen_address import (
    EVERY_ADDRESS,
    EVERY_IPV4,
    ListenAddress,
    bound_sockets,
    remove_stale_socket,
)
from togetherchat_server.config.tls import Certificates
from togetherchat_server.frontends.grpc.credentials import server_credentials

BLOCKED_S: Final = 2.0
"""How long a worker waits for another that binds the same address."""


def bind(server: aio.Server, address: str, mode: int, certificates: Certificates | None = None) -> str:
    """Bind and return the bound address, in which port 0 is replaced by the actual port."""
    where = ListenAddress.parse(address)
    try:
        if where.path:
            remove_stale_socket(where.path)  # gRPC would remove the socket of a running server, too
        with _file_mode(mode), _without_ipv6(where) as where:
            if certificates is None:
                port = server.add_insecure_port(str(where))
            else:
                port = server.add_secure_port(str(where), server_credentials(certificates))
    except OSError as exc:
        raise OSError(f"cannot listen on {address}: {exc.strerror}") from None
    except RuntimeError:
        raise OSError(f"cannot listen on {address}: {_bind_error(where)}") from None
    return str(where if where.path else where.with_port(port))


@contextmanager
def _file_mode(mode: int) -> Generator[None]:
    """Create files with this mode. gRPC creates that of a UNIX socket and listens in one step."""
    before = os.umask(0o777 & ~mode)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _without_ipv6(where: ListenAddress) -> Generator[ListenAddress]:
    """Let gRPC bind 0.0.0.0 as what it is. To gRPC it is every address, of IPv6 too.

    gRPC tries `[::]` first and falls back to 0.0.0.0. So a socket that does not listen is bound to `[::]`
    meanwhile.
    """
    if where.host != EVERY_IPV4:
        yield where
        return
    with socket.socket() as chosen:
        if not where.port:
            chosen.bind((EVERY_IPV4, 0))
            where = where.with_port(chosen.getsockname()[1])
    try:
        blocker = socket.socket(socket.AF_INET6)
    except OSError:  # the machine has no IPv6
        yield where
        return
    with blocker:
        blocker.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        deadline_s = time.monotonic() + BLOCKED_S
        while True:
            try:
                blocker.bind((EVERY_ADDRESS, where.port))
            except OSError as exc:
                # Another worker is at this point, or another process listens there.
                if exc.errno != errno.EADDRINUSE or time.monotonic() > deadline_s:
                    break
                time.sleep(BLOCKED_S / 100)
            else:
                break
        yield where


def _bind_error(where: ListenAddress) -> str:
    """Return why an address cannot be bound. gRPC gives no reason, so the bind is tried once more."""
    try:
        for probe in bound_sockets(where):
            probe.close()
    except OSError as exc:
        return str(exc).rpartition(": ")[2]
    return "gRPC gives no reason; with TLS, it may not support a certificate that OpenSSL accepts"
