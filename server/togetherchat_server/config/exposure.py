"""Rejects a start that would let anyone use this service's key, and warns of keys sent in plaintext."""

from collections.abc import Callable, Iterator
from typing import Final

from togetherchat_server.config.provider import ProviderConfig
from togetherchat_server.config.settings import Settings, SettingsError

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1", "[::1]")

PROTECTIONS: Final[tuple[tuple[str, Callable[[Settings], bool]], ...]] = (
    ("give callers keys (--api-keys-file FILE)", lambda settings: bool(settings.api_keys_file)),
    (
        "use the callers' own keys (--upstream-credentials caller)",
        lambda settings: settings.upstream_credentials == "caller",
    ),
    (
        "require client certificates (--tls-client-ca-file FILE)",
        lambda settings: settings.tls_client_ca_file is not None,
    ),
    ("or set --allow-unauthenticated", lambda settings: settings.allow_unauthenticated),
)
"""Protections of this service's key, as the error message names them. One is enough."""


def is_loopback(address: str) -> bool:
    """Return whether an address (HOST:PORT) is reachable from this machine only."""
    return address.rpartition(":")[0] in LOOPBACK_HOSTS


def reject_open_access(settings: Settings, provider: ProviderConfig) -> None:
    """Reject a start that would let anyone use this service's key.

    Raises:
        SettingsError: a listener is exposed and none of `PROTECTIONS` is set.
    """
    exposed = next(_exposed(settings), None)
    if provider.key is None or exposed is None or any(protects(settings) for _, protects in PROTECTIONS):
        return
    ways = ", ".join(("listen on 127.0.0.1", *(text for text, _ in PROTECTIONS)))
    raise SettingsError(f"{exposed} would let anyone use this service's key: {ways}")


def exposure_warnings(settings: Settings) -> tuple[str, ...]:
    """Return warnings about settings that are allowed but may be a mistake, one sentence each."""
    exposed = next(_exposed(settings), None)
    with_keys = bool(settings.api_keys_file) or settings.upstream_credentials != "server"
    if exposed is None or not with_keys or settings.tls_cert_file is not None:
        return ()
    way_out = "set --tls-cert-file and --tls-key-file, unless a proxy in front encrypts"
    return (f"{exposed} receives callers' keys in plaintext: {way_out}",)


def _exposed(settings: Settings) -> Iterator[str]:
    """Yield the listeners that other machines can reach, as they are set."""
    for name, address in (("grpc-listen", settings.grpc_listen), ("http-listen", settings.http_listen)):
        if address is not None and not is_loopback(address):
            yield f"--{name} {address}"
