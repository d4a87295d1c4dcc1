"""The gRPC servers: their options, what they serve, and where. Reads top to bottom.

gRPC ignores an option whose name it does not know, silently: every option here is proven by
its behaviour in `tests/contract/test_channel_options.py`.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

from grpc import aio

from togetherchat_server.config.tls import Certificates
from togetherchat_server.frontends.grpc.credentials import server_credentials
from togetherchat_server.frontends.grpc.handler import GrpcHandler
from togetherchat_server.frontends.grpc.health import Health
from togetherchat_server.frontends.grpc.methods import SERVICE, Method
from togetherchat_server.frontends.grpc.reflection import add_reflection

MEBIBYTE: Final = 2**20
WATCHERS_MAX: Final = 1000
PENDING_MAX: Final = 100_000
SHARE_PORT: Final = "grpc.so_reuseport"

OPTIONS: Final = (
    # Twice the service's own bound on a request, which answers with REQUEST_TOO_LARGE where
    # gRPC's answers with RESOURCE_EXHAUSTED and no details.
    ("grpc.max_receive_message_length", 64 * MEBIBYTE),
    ("grpc.max_send_message_length", 64 * MEBIBYTE),
    # Clients ping every 30 s; gRPC's own tolerance is one ping in five minutes, and a client
    # that pings during a long silence is cut off. The key has no `recv` in it.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_ping_strikes", 3),
    # A peer that vanished is noticed within 40 s. It is the ping's own limit that rules, a
    # minute by default: grpc.keepalive_timeout_ms, if shorter, is never armed (grpcio 1.85).
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    # Connections that only stand there hold a place for ever otherwise.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_concurrent_streams", 1024),
    # Calls that wait for the loop to take them up. Beyond a thousand of them gRPC cancels some at
    # random, without a word: admission, which answers, is to see them all.
    ("grpc.server.max_pending_requests", PENDING_MAX),
    ("grpc.server.max_pending_requests_hard_limit", PENDING_MAX),
    # A second server on the same port would take half of the calls, unnoticed. Workers, which
    # share theirs on purpose, have it at 1: their supervisor looks out for strangers.
    (SHARE_PORT, 0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionAge:
    """How long a connection lives before its client is asked to open another, give or take a tenth,
    and how long its calls may then go on: in seconds.

    It spreads clients over replicas that came later. And gRPC keeps what it has of a call for as
    long as the peer neither takes the answer nor goes: the end of the connection is its end.
    """

    age_s: float
    farewell_s: float

    def options(self) -> dict[str, int]:
        return {
            "grpc.max_connection_age_ms": round(self.age_s * 1000),
            "grpc.max_connection_age_grace_ms": round(self.farewell_s * 1000),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerOptions:
    """How the service listens: whether others share its port, with which certificate (None: plain
    text), and where probes are answered (None: nowhere else). Those are always answered in plain
    text: a kubelet has no certificate to show.
    """

    share_port: bool
    certificates: Certificates | None
    health_address: str | None


@final
class GrpcServer:
    """The gRPC door: the public listener, and the plaintext one for probes if it is wanted."""

    def __init__(
        self,
        *,
        handler: GrpcHandler,
        methods: Mapping[str, Method],
        reflection: bool,
        connections: ConnectionAge,
        listening: ListenerOptions,
    ) -> None:
        options = tuple(
            {**dict(OPTIONS), **connections.options(), SHARE_PORT: int(listening.share_port)}.items()
        )
        self.health: Final = Health((SERVICE,), watchers_max=WATCHERS_MAX)
        self._handler = handler
        self._listening = listening
        for name, method in methods.items():
            handler.add(name, method)
        self._server = aio.server(options=options)
        self._server.add_generic_rpc_handlers((handler,))
        self._server.add_generic_rpc_handlers((self.health.handlers(),))
        if reflection:
            add_reflection(self._server)
        self._probes = None if listening.health_address is None else aio.server(options=options)
        if self._probes is not None:
            self._probes.add_generic_rpc_handlers((self.health.handlers(),))

    async def start(self, address: str) -> tuple[str, str | None]:
        """Bind and serve; the bound addresses of the public and the probes' listener.

        Raises:
            OSError: an address cannot be bound.
        """
        bound = _bind(self._server, address, self._listening.certificates)
        probes = None
        if self._probes is not None and self._listening.health_address is not None:
            probes = _bind(self._probes, self._listening.health_address)
            await self._probes.start()
        await self._server.start()
        return bound, probes

    async def stop_accepting(self, grace_s: float) -> None:
        """GOAWAY to every connection, then wait for running calls, at most `grace_s`."""
        await self._server.stop(grace_s)

    async def finish(self, grace_s: float) -> None:
        """Cut off what holds the stop up and is no call: a watch whose peer takes no message, a
        reflection stream that stands open. They get `grace_s` to end by themselves.
        """
        await self._server.stop(grace_s)

    def abort_in_flight(self) -> None:
        self._handler.abort_in_flight()

    async def close(self) -> None:
        await self._server.stop(0)
        if self._probes is not None:
            await self._probes.stop(0)


def _bind(server: aio.Server, address: str, certificates: Certificates | None = None) -> str:
    """Bind and say where; port 0 has become a real one."""
    host, _, port = address.rpartition(":")
    try:
        if certificates is None:
            return f"{host}:{server.add_insecure_port(address)}"
        return f"{host}:{server.add_secure_port(address, server_credentials(certificates))}"
    except RuntimeError:
        raise OSError(f"cannot listen on {address}: {_refusal(host.strip('[]'), int(port))}") from None


def _refusal(host: str, port: int) -> str:
    """Why an address cannot be bound: gRPC does not say, so the system is asked once more."""
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(place)
    except OSError as exc:
        return exc.strerror or str(exc)
    return "gRPC gives no reason; with TLS, a certificate that OpenSSL takes and gRPC does not"
