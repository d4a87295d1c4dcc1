"""Who could spend this service's key, or overhear a caller's: a start that lets anyone spend it is
refused, one that lets keys cross a network in the clear is warned of.
"""

from collections.abc import Callable, Iterator
from typing import Final

from togetherchat_server.config.provider import ProviderConfig
from togetherchat_server.config.settings import Settings, SettingsError

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1", "[::1]")

PROTECTIONS: Final[tuple[tuple[str, Callable[[Settings], bool]], ...]] = (
    ("give callers keys (--api-keys-file FILE)", lambda settings: bool(settings.api_keys_file)),
    (
        "let callers bring theirs (--upstream-credentials caller)",
        lambda settings: settings.upstream_credentials == "caller",
    ),
    (
        "ask callers for certificates (--tls-client-ca-file FILE)",
        lambda settings: settings.tls_client_ca_file is not None,
    ),
    ("or say --allow-unauthenticated", lambda settings: settings.allow_unauthenticated),
)
"""What keeps strangers from this service's key, in the words that say so. One is enough."""


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address (HOST:PORT)."""
    return address.rpartition(":")[0] in LOOPBACK_HOSTS


def reject_open_access(settings: Settings, upstream: ProviderConfig) -> None:
    """Refuse a start that would let strangers spend this service's key.

    Raises:
        SettingsError: it would, and nothing of `PROTECTIONS` is set.
    """
    exposed = next(_exposed(settings), None)
    if upstream.key is None or exposed is None or any(protects(settings) for _, protects in PROTECTIONS):
        return
    ways = ", ".join(("listen on 127.0.0.1", *(words for words, _ in PROTECTIONS)))
    raise SettingsError(f"{exposed} would let anyone who reaches it spend this service's key: {ways}")


def exposure_warnings(settings: Settings) -> tuple[str, ...]:
    """What is allowed and may still not be meant, a sentence each."""
    exposed = next(_exposed(settings), None)
    with_keys = bool(settings.api_keys_file) or settings.upstream_credentials != "server"
    if exposed is None or not with_keys or settings.tls_cert_file is not None:
        return ()
    way_out = "set --tls-cert-file and --tls-key-file, unless something before it encrypts"
    return (f"{exposed} takes callers' keys in plain text: {way_out}",)


def _exposed(settings: Settings) -> Iterator[str]:
    """Listeners that other machines reach, as they were set."""
    for name, address in (("grpc-listen", settings.grpc_listen), ("http-listen", settings.http_listen)):
        if address is not None and not is_loopback(address):
            yield f"--{name} {address}"
