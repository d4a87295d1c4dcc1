"""The gRPC servers: their options, services and listeners.

gRPC silently ignores an option whose name it does not know. `tests/contract/test_channel_options.py`
therefore proves each option here by its behaviour.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, cast, final

from grpc import aio
from grpc.aio import _server

from togetherchat_server.config.tls import Certificates
from togetherchat_server.frontends.grpc.acceptance import Acceptance, supported
from togetherchat_server.frontends.grpc.binding import bind
from togetherchat_server.frontends.grpc.handler import GrpcHandler
from togetherchat_server.frontends.grpc.health import REQUEST_BYTES_MAX, Health
from togetherchat_server.frontends.grpc.methods import METHODS, SERVICES
from togetherchat_server.frontends.grpc.read_permits import ReadPermits
from togetherchat_server.frontends.grpc.reflection import add_reflection
from togetherchat_server.frontends.grpc.started_calls import StartedCalls
from togetherchat_server.frontends.grpc.wakeups import bulk_wakeups

MEBIBYTE: Final = 2**20
PENDING_MAX: Final = 8192
"""Calls that wait to be accepted: a second's work. Each takes 26 KiB, even if its peer has disconnected."""
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

AGENT_WARNING: Final = (
    "an agent instruments gRPC servers, which would break streams: it does not see this server. "
    "For spans of calls, set --traces otlp"
)

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
        self.health: Final = Health(tuple(SERVICES))
        permits = ReadPermits(clock=clock)
        self._listening = listening
        with bulk_wakeups(asyncio.get_running_loop()), StartedCalls() as self.started_calls:
            self._server = plain_server(options)
        self._server.add_generic_rpc_handlers((handler,))
        self._acceptance = Acceptance(self._server, handler, METHODS) if supported() else None
        self._server.add_generic_rpc_handlers((self.health.handlers(permits),))
        if reflection:
            add_reflection(self._server, permits)
        self._probes = None
        if listening.health_address is not None:
            self._probes = plain_server({**options, **NO_COMPRESSION, **PROBE_OPTIONS})
            # Messages are small here, and probes must not wait for permits of the public listener.
            permits = ReadPermits(permits=PROBE_READS, clock=clock)
            self._probes.add_generic_rpc_handlers((self.health.handlers(permits),))

    async def start(self, address: str) -> tuple[str, str | None]:
        """Bind and serve. Return the bound addresses of the public listener and of the probe listener.

        Raises:
            OSError: an address cannot be bound.
        """
        mode = self._listening.socket_mode
        bound = bind(self._server, address, mode, self._listening.certificates)
        probes = None
        if self._probes is not None and self._listening.health_address is not None:
            probes = bind(self._probes, self._listening.health_address, mode)
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


def plain_server(options: Mapping[str, int]) -> aio.Server:
    """Return a server without the interceptors of agents.

    OpenTelemetry's zero-code instrumentation, Sentry and Datadog replace `grpc.aio.server` by a function
    that wraps every handler. They expect handlers that are generators. With a handler that writes to its
    context, streams fail with the text of an exception (opentelemetry-python-contrib#3066).
    """
    if aio.server is not _server.server:
        _log.warning(AGENT_WARNING)
    return cast("aio.Server", _server.server(options=tuple(options.items())))
