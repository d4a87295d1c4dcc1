"""Configuration of a client's channel: target, TLS, keys, and gRPC channel options.

Owns all channel defaults and the metadata that carries the keys. Opens no channel: the sync and the
async client open theirs with this configuration.

TLS. A target on this machine (localhost, 127.x, ::1, a unix socket) is reached in plaintext, any
other target over TLS, unless `tls` is set. The default must not send a key over a network in
plaintext.

Retries. The service config beside the protos (`togetherchat/v1/service_config.json`) makes gRPC retry
UNAVAILABLE, RESOURCE_EXHAUSTED and CANCELLED. The service controls these retries with
`grpc-retry-pushback-ms`. A lost connection carries no pushback, and the retry after it may be billed
twice. `retries=False` disables all retries.
"""

import functools
import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias, TypedDict

import grpc

Option: TypeAlias = tuple[str, str | int]
Metadata: TypeAlias = Sequence[tuple[str, str]]

MEBIBYTE: Final = 1024 * 1024
RECEIVE_BYTES_MAX: Final = 64 * MEBIBYTE
RETRY_BUFFER_BYTES: Final = 32 * MEBIBYTE
KEEPALIVE_S: Final = 30
KEEPALIVE_TIMEOUT_S: Final = 10
HEALTH_TIMEOUT_S: Final = 10.0
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
)

_LOCAL_SCHEMES = ("unix:", "unix-abstract:")
_SCHEMES = ("dns:///", "dns:", "ipv4:", "ipv6:")


class _MethodConfig(TypedDict):
    name: list[dict[str, str]]
    timeout: str


class _ServiceConfig(TypedDict):
    methodConfig: list[_MethodConfig]


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
    options: tuple[Option, ...] = ()

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Return the channel's credentials; None for plaintext."""
        if self.tls is None:
            return None
        return grpc.ssl_channel_credentials(
            self.tls.root_certificates, self.tls.private_key, self.tls.certificate_chain
        )

    def call_timeout_s(self, method: str, requested_s: float | None) -> float:
        """Timeout of a call in seconds: the call's, else the client's, else the service config's."""
        if requested_s is not None:
            return requested_s
        return method_timeouts_s()[method] if self.timeout_s is None else self.timeout_s

    def metadata(self, request_id: str, more: Metadata = ()) -> tuple[tuple[str, str | bytes], ...]:
        """Return the metadata of a call: request id and keys, then the pairs in `more`."""
        pairs: list[tuple[str, str | bytes]] = [("x-request-id", request_id)]
        if self.key is not None:
            pairs.append(("authorization", f"Bearer {self.key}"))
        if self.upstream_key is not None:
            pairs.append(("x-together-api-key", self.upstream_key))
        return (*pairs, *more)


def resolve_config(  # noqa: PLR0913  the keyword arguments of `connect`
    target: str,
    *,
    key: str | None,
    upstream_key: str | None,
    timeout_s: float | None,
    tls: bool | Tls | None,
    retries: bool,
    channel_options: Sequence[Option],
) -> ChannelConfig:
    """Resolve the defaults. `channel_options` override the library's own options.

    Raises:
        ValueError: a key has a character that gRPC metadata does not allow.
    """
    resolved = _tls(target, tls)
    options: dict[str, str | int] = dict(OPTIONS)
    options["grpc.service_config"] = service_config()
    options["grpc.enable_retries"] = int(retries)
    if is_local(target):
        # A proxy from the environment (http_proxy) cannot reach this machine's loopback.
        options["grpc.enable_http_proxy"] = 0
    if resolved is not None and resolved.server_name:
        options["grpc.ssl_target_name_override"] = resolved.server_name
    options.update(channel_options)
    return ChannelConfig(
        target=target,
        key=_validated_key(key, "key"),
        upstream_key=_validated_key(upstream_key, "upstream_key"),
        timeout_s=timeout_s,
        tls=resolved,
        options=tuple(options.items()),
    )


def without_health_checks(options: Sequence[Option]) -> tuple[Option, ...]:
    """Options of a channel that also sends calls to a service that reports NOT_SERVING."""
    return (*options, ("grpc.inhibit_health_checking", 1))


def is_local(target: str) -> bool:
    """Return whether every address in `target` is on this machine. Names are not resolved."""
    if target.startswith(_LOCAL_SCHEMES):
        return True
    for scheme in _SCHEMES:
        if target.startswith(scheme):
            target = target.removeprefix(scheme)
            break
    return all(_is_local_host(_host(address)) for address in target.split(","))


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


def _host(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address if address.count(":") > 1 else address.partition(":")[0]


def _is_local_host(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _validated_key(key: str | None, name: str) -> str | None:
    """`key`, stripped. Validated here because gRPC's exception would contain an invalid key."""
    if key is None:
        return None
    stripped = key.strip()
    if not stripped or not stripped.isascii() or not stripped.isprintable() or " " in stripped:
        raise ValueError(f"{name} is empty or has a character that gRPC metadata does not allow")
    return stripped
