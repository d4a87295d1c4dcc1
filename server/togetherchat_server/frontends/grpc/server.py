"""The gRPC servers: their options, services and listeners.

gRPC silently ignores an option whose name it does not know. `tests/contract/test_channel_options.py`
therefore proves each option here by its behaviour.
"""

import asyncio
import errno
import logging
import os
import socket
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, final

from grpc import aio

from togetherchat_server.config.listen_address import (
    EVERY_ADDRESS,
    EVERY_IPV4,
    ListenAddress,
    bound_sockets,
    remove_stale_socket,
)
from togetherchat_server.config.tls import Certificates
from togetherchat_server.frontends.grpc.acceptance import Acceptance, supported
from togetherchat_server.frontends.grpc.credentials import server_credentials
from togetherchat_server.frontends.grpc.handler import GrpcHandler
from togetherchat_server.frontends.grpc.health import REQUEST_BYTES_MAX, Health
from togetherchat_server.frontends.grpc.methods import METHODS, SERVICE
from togetherchat_server.frontends.grpc.read_permits import ReadPermits
from togetherchat_server.frontends.grpc.reflection import add_reflection
from togetherchat_server.frontends.grpc.started_calls import StartedCalls
from togetherchat_server.frontends.grpc.wakeups import bulk_wakeups

MEBIBYTE: Final = 2**20
PENDING_MAX: Final = 8192
"""Calls that wait to be accepted: a second's work. Each takes 26 KiB, even if its peer has disconnected."""
BLOCKED_S: Final = 2.0
"""How long a worker waits for another that binds the same address."""
SHARE_PORT: Final = "grpc.so_reuseport"

OPTIONS: Final = (
    # Twice the service's own bound on a request. The service rejects with REQUEST_TOO_LARGE; gRPC
    # would reject with RESOURCE_EXHAUSTED and no details.
    ("grpc.max_receive_message_length", 64 * MEBIBYTE),
    ("grpc.max_send_message_length", 64 * MEBIBYTE),
    # Clients ping every 30 s. By default gRPC accepts one ping in five minutes, and closes the
    # connection of a client that pings more often while no data flows. The key has no `recv` in it.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_ping_strikes", 3),
    # A peer that vanished is detected within 40 s. The ping timeout decides, a minute by default:
    # grpc.keepalive_timeout_ms, if shorter, never starts (grpcio 1.85).
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    # Otherwise a connection that never completes its handshake stays open for ever.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_concurrent_streams", 1024),
    # The bound on headers, 16 KiB, applies once the peer has acknowledged it, which gRPC's transports do
    # at once. A peer that does not can refer thousands of times to one long header, in a frame of 16 KiB
    # that takes 16 MiB. By default it has a minute for that, and the core holds what it rejects for up to
    # a second (grpc/grpc#31809).
    ("grpc.http2.settings_timeout", 500),
    ("grpc.http.tarpit", 0),
    # Calls that the event loop has not accepted yet. Beyond the bound gRPC cancels some of them at
    # random, with no reason. By default that begins at a thousand, and admission control, which sends a
    # reason, does not see them.
    ("grpc.server.max_pending_requests", PENDING_MAX),
    ("grpc.server.max_pending_requests_hard_limit", PENDING_MAX),
    # By default gRPC cancels a call without a status once it has waited for 30 s to be accepted. Its
    # caller's deadline and ours are shorter than this, in seconds.
    ("grpc.server_max_unrequested_time_in_server", 3600),
    # A second server on the same port would take half of the calls, unnoticed. Workers share their
    # port on purpose and set this to 1: their supervisor checks that no other process has the port.
    (SHARE_PORT, 0),
)

NO_COMPRESSION: Final = {"grpc.compression_enabled_algorithms_bitset": 1}
"""Identity alone. A message of 60 KB may become one of 60 MB, before Python sees whose it is."""
PROBE_OPTIONS: Final = {
    "grpc.max_receive_message_length": REQUEST_BYTES_MAX,
    "grpc.max_concurrent_streams": 100,
    "grpc.max_allowed_incoming_connections": 64,
}
PROBE_READS: Final = 1000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcConnectionLimits:
    """Limits of the connections of callers. Times are in seconds.

    At the age a client must open a new connection, give or take a tenth. A bounded age spreads clients
    over replicas that were added later. And gRPC keeps the state of a call as long as its peer neither
    reads the response nor disconnects: the end of the connection frees it.
    """

    age_s: float
    grace_s: float
    """How long the calls of a connection may continue after its age."""
    idle_s: float
    """How long a connection may be without a call."""
    connections_max: int

    def options(self) -> dict[str, int]:
        return {
            "grpc.max_connection_age_ms": round(self.age_s * 1000),
            "grpc.max_connection_age_grace_ms": round(self.grace_s * 1000),
            "grpc.max_connection_idle_ms": round(self.idle_s * 1000),
            "grpc.max_allowed_incoming_connections": self.connections_max,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerOptions:
    """How the service listens."""

    share_port: bool
    """Whether other processes may listen on the same port."""
    certificates: Certificates | None
    """None for plaintext."""
    request_compression: bool
    """Whether requests may be compressed."""
    health_address: str | None
    """A second listener, for probes alone; None for none. Always plaintext: a kubelet has no certificate."""
    socket_mode: int = 0o600
    """Of the files of UNIX sockets."""


@final
class GrpcServer:
    """The gRPC servers: the public one, and the plaintext one for probes if it is configured."""

    def __init__(
        self,
        *,
        handler: GrpcHandler,
        reflection: bool,
        connections: GrpcConnectionLimits,
        listening: ListenerOptions,
        clock: Callable[[], float],
    ) -> None:
        options = {**dict(OPTIONS), **connections.options(), SHARE_PORT: int(listening.share_port)}
        if not listening.request_compression:
            options |= NO_COMPRESSION
        self.health: Final = Health((SERVICE,))
        permits = ReadPermits(clock=clock)
        self._listening = listening
        with bulk_wakeups(asyncio.get_running_loop()), StartedCalls() as self.started_calls:
            self._server = aio.server(options=tuple(options.items()))
        self._server.add_generic_rpc_handlers((handler,))
        self._acceptance = Acceptance(self._server, handler, METHODS) if supported() else None
        self._server.add_generic_rpc_handlers((self.health.handlers(permits),))
        if reflection:
            add_reflection(self._server, permits)
        self._probes = None
        if listening.health_address is not None:
            self._probes = aio.server(options=tuple({**options, **NO_COMPRESSION, **PROBE_OPTIONS}.items()))
            # Messages are small here, and probes must not wait for permits of the public listener.
            permits = ReadPermits(permits=PROBE_READS, clock=clock)
            self._probes.add_generic_rpc_handlers((self.health.handlers(permits),))

    async def start(self, address: str) -> tuple[str, str | None]:
        """Bind and serve. Return the bound addresses of the public listener and of the probe listener.

        Raises:
            OSError: an address cannot be bound.
        """
        mode = self._listening.socket_mode
        bound = _bind(self._server, address, mode, self._listening.certificates)
        probes = None
        if self._probes is not None and self._listening.health_address is not None:
            probes = _bind(self._probes, self._listening.health_address, mode)
            await self._probes.start()
        await self._server.start()
        if self._acceptance is None:
            _log.warning("this version of grpcio is not known: calls are accepted one by one")
        else:
            self._acceptance.start()
        return bound, probes

    async def stop_accepting(self, grace_s: float) -> None:
        """Send GOAWAY on every connection, then wait at most `grace_s` for calls in flight."""
        await self._server.stop(grace_s)

    async def finish(self, grace_s: float) -> None:
        """End what delays the stop and is not a call, after `grace_s`.

        That is a watch whose peer reads no message, or a reflection stream that stays open.
        """
        await self._server.stop(grace_s)

    async def close(self) -> None:
        await self._server.stop(0)
        if self._probes is not None:
            await self._probes.stop(0)


def _bind(server: aio.Server, address: str, mode: int, certificates: Certificates | None = None) -> str:
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
