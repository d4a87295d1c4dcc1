"""Configuration of a client's channel: target, TLS, keys, and gRPC channel options.

Owns all channel defaults, and the timeout and metadata of a call. Opens no channel: `channels.py`
opens them with this configuration.

TLS. A target on this machine (localhost, 127.x, ::1, a unix socket) is reached in plaintext, any
other target over TLS, unless `tls` is set. The default must not send a key over a network in
plaintext.

Retries. The service config beside the protos (`togetherchat/v1/service_config.json`) makes gRPC retry
UNAVAILABLE, RESOURCE_EXHAUSTED and CANCELLED. The service controls these retries with
`grpc-retry-pushback-ms`. A lost connection carries no pushback, and the retry after it may be billed
twice. `retries=False` disables all retries.

Health checking. With `health_checking=True` gRPC watches the health of each server, and sends no calls
to one that reports NOT_SERVING. `health_gate.py` bounds the wait for the first answer. The default is
off: clients/README.md has the measurement.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias, TypedDict

import grpc

from togetherchat_client.arguments import (
    Metadata,
    validated_key,
    validated_metadata,
    validated_request_id,
    validated_timeout_s,
)
from togetherchat_client.health import HEALTH_SERVICE
from togetherchat_client.targets import is_local, validate_target

Option: TypeAlias = tuple[str, str | int]
Pairs: TypeAlias = tuple[tuple[str, str | bytes], ...]

MEBIBYTE: Final = 1024 * 1024
RECEIVE_BYTES_MAX: Final = 64 * MEBIBYTE
RETRY_BUFFER_BYTES: Final = 32 * MEBIBYTE
KEEPALIVE_S: Final = 30
KEEPALIVE_TIMEOUT_S: Final = 10
HEALTH_TIMEOUT_S: Final = 10.0
MAX_RECONNECT_BACKOFF_S: Final = 5.0
"""gRPC's default is 120 s: after an outage a client would return that much later than the service."""
DNS_INTERVAL_S: Final = 5
"""gRPC's default is 30 s: for that long, calls would fail after the only pod got a new address."""
NO_HEALTH_CHECKS: Final = "grpc.inhibit_health_checking"
KEY_WITHOUT_TLS: Final = (
    "health_checking: gRPC's core sends no key with its health watch over plaintext; use TLS, or leave it out"
)
USER_AGENT: Final = "togetherchat-python"

OPTIONS: tuple[Option, ...] = (
    ("grpc.primary_user_agent", USER_AGENT),
    ("grpc.max_receive_message_length", RECEIVE_BYTES_MAX),
    # gRPC does not retry a call that is larger than this buffer. Its default is 256 KiB.
    ("grpc.per_rpc_retry_buffer_size", RETRY_BUFFER_BYTES),
    ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
    # In grpcio 1.85 this option ends a dead connection. With keepalive_timeout_ms alone, at 1 s,
    # a stream over a frozen connection ended after 60 s, the default of ping_timeout_ms.
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
    # By default gRPC stops after two pings without data. A reasoning model is silent for longer.
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.dns_min_time_between_resolutions_ms", DNS_INTERVAL_S * 1000),
)


class _MethodConfig(TypedDict):
    name: list[dict[str, str]]
    timeout: str


class _ServiceConfig(TypedDict):
    methodConfig: list[_MethodConfig]


class CallArguments(TypedDict):
    """The keyword arguments of gRPC's multi-callables."""

    timeout: float
    metadata: Pairs
    wait_for_ready: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """TLS options. Certificates and keys are PEM. Without roots gRPC's own roots are trusted."""

    root_certificates: bytes | None = None
    private_key: bytes | None = field(default=None, repr=False)
    """Key of `certificate_chain`, the client certificate for mutual TLS."""
    certificate_chain: bytes | None = None
    server_name: str = ""
    """Expected name in the server's certificate, where it differs from the target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelConfig:
    """Configuration of a client, with all defaults resolved."""

    target: str
    key: str | None = field(default=None, repr=False)
    upstream_key: str | None = field(default=None, repr=False)
    timeout_s: float | None = None
    tls: Tls | None = None
    """None means plaintext."""
    health_checking: bool = False
    wait_for_ready: bool = False
    options: tuple[Option, ...] = ()

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Return the channel's credentials; None for plaintext."""
        if self.tls is None:
            return None
        channel = grpc.ssl_channel_credentials(
            self.tls.root_certificates, self.tls.private_key, self.tls.certificate_chain
        )
        keys = self._keys() if self.health_checking else ()
        if not keys:
            return channel
        # gRPC's own health watch has no other way to carry keys, and over plaintext none at all.
        return grpc.composite_channel_credentials(
            channel, grpc.metadata_call_credentials(_WatchKeys(keys), "togetherchat-health")
        )

    def call_arguments(
        self,
        method: str,
        *,
        request_id: str,
        timeout_s: float | None = None,
        metadata: Metadata = (),
        wait_for_ready: bool | None = None,
    ) -> CallArguments:
        """Return the arguments of a call of `method`. A value of the call overrides the client's.

        Raises:
            ValueError: gRPC could not send the timeout, the request id or the metadata.
        """
        return {
            "timeout": self._call_timeout_s(method, timeout_s),
            "metadata": self._metadata(request_id, metadata),
            "wait_for_ready": self.wait_for_ready if wait_for_ready is None else wait_for_ready,
        }

    def _call_timeout_s(self, method: str, requested_s: float | None) -> float:
        """Timeout of a call in seconds: the call's, else the client's, else the service config's."""
        if requested_s is not None:
            return validated_timeout_s(requested_s)
        return method_timeouts_s()[method] if self.timeout_s is None else self.timeout_s

    def _metadata(self, request_id: str, more: Metadata) -> Pairs:
        """Request id and keys, then the pairs in `more`, which replace those of the same name."""
        added = validated_metadata(more)
        names = {name for name, _ in added}
        own = (("x-request-id", validated_request_id(request_id)), *self._keys())
        return (*(pair for pair in own if pair[0] not in names), *added)

    def _keys(self) -> tuple[tuple[str, str], ...]:
        pairs: list[tuple[str, str]] = []
        if self.key is not None:
            pairs.append(("authorization", f"Bearer {self.key}"))
        if self.upstream_key is not None:
            pairs.append(("x-together-api-key", self.upstream_key))
        return tuple(pairs)


class _WatchKeys(grpc.AuthMetadataPlugin):
    """Adds the keys to gRPC's own health watch. All other calls carry them in their metadata."""

    def __init__(self, keys: tuple[tuple[str, str], ...]) -> None:
        self._keys = keys

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        watch = context.service_url.endswith(HEALTH_SERVICE) and context.method_name == "Watch"
        callback(self._keys if watch else (), None)


def resolve_config(  # noqa: PLR0913  the keyword arguments of `connect`
    target: str,
    *,
    key: str | None = None,
    upstream_key: str | None = None,
    timeout_s: float | None = None,
    tls: bool | Tls | None = None,
    retries: bool = True,
    health_checking: bool = False,
    wait_for_ready: bool = False,
    max_reconnect_backoff_s: float = MAX_RECONNECT_BACKOFF_S,
    channel_options: Sequence[Option] = (),
) -> ChannelConfig:
    """Resolve the defaults. `channel_options` override the library's own options.

    Raises:
        ValueError: the target, a key, the timeout or the back-off is not valid, or health checking
            could not send the keys.
    """
    validate_target(target)
    backoff_s = validated_timeout_s(max_reconnect_backoff_s, "max_reconnect_backoff_s")
    resolved = _tls(target, tls)
    if health_checking and resolved is None and not (key is None and upstream_key is None):
        raise ValueError(KEY_WITHOUT_TLS)
    options: dict[str, str | int] = dict(OPTIONS)
    options["grpc.service_config"] = service_config()
    if not health_checking:
        # The service config asks for health checks.
        options[NO_HEALTH_CHECKS] = 1
    options["grpc.enable_retries"] = int(retries)
    options["grpc.max_reconnect_backoff_ms"] = max(1, round(backoff_s * 1000))
    if is_local(target):
        # A proxy from the environment (http_proxy) cannot reach this machine's loopback.
        options["grpc.enable_http_proxy"] = 0
    if resolved is not None and resolved.server_name:
        options["grpc.ssl_target_name_override"] = resolved.server_name
    options.update(channel_options)
    return ChannelConfig(
        target=target,
        key=validated_key(key, "key"),
        upstream_key=validated_key(upstream_key, "upstream_key"),
        timeout_s=None if timeout_s is None else validated_timeout_s(timeout_s),
        tls=resolved,
        health_checking=health_checking,
        wait_for_ready=wait_for_ready,
        options=tuple(options.items()),
    )


def without_health_checks(options: Sequence[Option]) -> tuple[Option, ...]:
    """Options of a channel that also sends calls to a service that reports NOT_SERVING."""
    return tuple({**dict(options), NO_HEALTH_CHECKS: 1}.items())


@functools.cache
def service_config() -> str:
    """The service config beside the protos, as JSON text."""
    from importlib import resources  # noqa: PLC0415  takes 10 ms, needed to connect only

    return (resources.files("togetherchat.v1") / "service_config.json").read_text(encoding="utf-8")


@functools.cache
def method_timeouts_s() -> Mapping[str, float]:
    """Timeout of each method in the service config, and this library's for a health check.

    gRPC does not send a timeout of the service config to the server. The client passes it with each
    call, so that the server knows the deadline.
    """
    config: _ServiceConfig = json.loads(service_config())
    timeouts_s = {"Check": HEALTH_TIMEOUT_S}
    for entry in config["methodConfig"]:
        for name in entry["name"]:
            timeouts_s[name["method"]] = float(entry["timeout"].removesuffix("s"))
    return timeouts_s


def _tls(target: str, tls: bool | Tls | None) -> Tls | None:  # noqa: FBT001  an argument of `connect`
    match tls:
        case Tls():
            return tls
        case None:
            return None if is_local(target) else Tls()
        case True:
            return Tls()
        case False:
            return None
