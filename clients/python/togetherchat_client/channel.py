"""How to reach the service: target, encryption, keys, and the channel's options.

Owns every default of the channel and the keys' way into metadata. Opens nothing: `grpc`
and `grpc.aio` open their channels with what this module decides.

Encryption. A target on this machine (localhost, 127.x, ::1, a unix socket) is spoken to in
plain text, any other over TLS, unless `tls` says otherwise: a key must not cross a network
in the clear because nobody thought of it.

Retries. The service config beside the protos (`togetherchat/v1/service_config.json`) asks
gRPC's own client to retry UNAVAILABLE and RESOURCE_EXHAUSTED; the service steers it with
`grpc-retry-pushback-ms`. A lost connection has no pushback, and a retry after it may be
billed twice: `retries=False` turns all of it off.
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
    # gRPC's default of 256 KiB leaves every longer conversation without a retry.
    ("grpc.per_rpc_retry_buffer_size", RETRY_BUFFER_BYTES),
    ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
    # In grpcio 1.85 it is this one that ends a dead connection: with keepalive_timeout_ms
    # alone, at 1 s, a stream over a frozen connection ended after 60 s, this one's default.
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
    # By default gRPC stops after two pings without data: less than a model that thinks for long.
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
    """TLS options. Certificates and keys are PEM; unset roots are gRPC's own."""

    root_certificates: bytes | None = None
    private_key: bytes | None = field(default=None, repr=False)
    """With `certificate_chain`: this client's own certificate, for mutual TLS."""
    certificate_chain: bytes | None = None
    server_name: str = ""
    """The name that the server's certificate must bear, where it is not the target's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelConfig:
    """What a client needs to know, decided once."""

    target: str
    key: str | None = field(default=None, repr=False)
    upstream_key: str | None = field(default=None, repr=False)
    timeout_s: float | None = None
    tls: Tls | None = None
    """None is plain text."""
    options: tuple[Option, ...] = ()

    def credentials(self) -> grpc.ChannelCredentials | None:
        """The channel's credentials, None for plain text."""
        if self.tls is None:
            return None
        return grpc.ssl_channel_credentials(
            self.tls.root_certificates, self.tls.private_key, self.tls.certificate_chain
        )

    def call_timeout_s(self, method: str, asked_s: float | None) -> float:
        """Seconds that a call of `method` may take: as asked, else the client's, else the config's."""
        if asked_s is not None:
            return asked_s
        return method_timeouts_s()[method] if self.timeout_s is None else self.timeout_s

    def metadata(self, request_id: str, more: Metadata = ()) -> tuple[tuple[str, str | bytes], ...]:
        """What goes out with every call, and after it what one call adds."""
        pairs: list[tuple[str, str | bytes]] = [("x-request-id", request_id)]
        if self.key is not None:
            pairs.append(("authorization", f"Bearer {self.key}"))
        if self.upstream_key is not None:
            pairs.append(("x-together-api-key", self.upstream_key))
        return (*pairs, *more)


def resolve_config(  # noqa: PLR0913  the arguments of `connect`, all named
    target: str,
    *,
    key: str | None,
    upstream_key: str | None,
    timeout_s: float | None,
    tls: bool | Tls | None,
    retries: bool,
    channel_options: Sequence[Option],
) -> ChannelConfig:
    """Decide the defaults. `channel_options` win over the library's own.

    Raises:
        ValueError: a key has characters that metadata cannot carry.
    """
    resolved = _tls(target, tls)
    options: dict[str, str | int] = dict(OPTIONS)
    options["grpc.service_config"] = service_config()
    options["grpc.enable_retries"] = int(retries)
    if is_local(target):
        # A proxy for the outside world (http_proxy) is no way to this machine.
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
    """Options of a channel that reaches a service which says it is not serving, to ask it how it is."""
    return (*options, ("grpc.inhibit_health_checking", 1))


def is_local(target: str) -> bool:
    """Whether every address of `target` is on this machine, by its text alone."""
    if target.startswith(_LOCAL_SCHEMES):
        return True
    for scheme in _SCHEMES:
        if target.startswith(scheme):
            target = target.removeprefix(scheme)
            break
    return all(_is_local_host(_host(address)) for address in target.split(","))


@functools.cache
def service_config() -> str:
    """The service config that stands beside the protos, as JSON text."""
    from importlib import resources  # noqa: PLC0415  10 ms that only a client that connects should pay

    return (resources.files("togetherchat.v1") / "service_config.json").read_text(encoding="utf-8")


@functools.cache
def method_timeouts_s() -> Mapping[str, float]:
    """The service config's timeout of each method, and ours for a health check.

    gRPC keeps a timeout of the config to itself: the service does not see it. Asked for
    call by call it travels along.
    """
    config: _ServiceConfig = json.loads(service_config())
    timeouts_s = {"Check": HEALTH_TIMEOUT_S}
    for entry in config["methodConfig"]:
        for name in entry["name"]:
            timeouts_s[name["method"]] = float(entry["timeout"].removesuffix("s"))
    return timeouts_s


def _tls(target: str, tls: bool | Tls | None) -> Tls | None:  # noqa: FBT001  the word of `connect`
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
    """`key` without the white space around it. gRPC would put an illegal one into its exception."""
    if key is None:
        return None
    stripped = key.strip()
    if not stripped or not stripped.isascii() or not stripped.isprintable() or " " in stripped:
        raise ValueError(f"{name} is empty or has a character that metadata cannot carry")
    return stripped
