"""Rejects a start that would let anyone use this service's key, and warns of keys that others can read."""

import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from togetherchat_server.config.listen_address import ListenAddress
from togetherchat_server.config.provider import ProviderConfig
from togetherchat_server.config.reloading_file import ReloadingFile
from togetherchat_server.config.settings import Settings, SettingsError
from togetherchat_server.config.types import ANY_ORIGIN

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1", "[::1]")

PROTECTIONS: Final[tuple[tuple[str, Callable[[Settings], bool]], ...]] = (
    ("give callers keys (--api-keys-file FILE)", lambda settings: bool(settings.api_keys_file)),
    ("accept JWTs (--jwt-issuer ISSUER)", lambda settings: settings.jwt_issuer is not None),
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
    """Return whether a listener's address is reachable from this machine only."""
    return ListenAddress.parse(address).is_local


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


def exposure_warnings(settings: Settings, provider: ProviderConfig | None) -> tuple[str, ...]:
    """Return warnings about settings that are allowed but may be a mistake, one sentence each."""
    return (
        *_plaintext_warnings(settings),
        *_page_warnings(settings, provider),
        *_file_warnings(settings, provider),
    )


def _page_warnings(settings: Settings, provider: ProviderConfig | None) -> Iterator[str]:
    """Yield a warning if any web page that someone opens could spend this service's key."""
    pays_for_all = provider is not None and provider.key is not None and not _identifies_callers(settings)
    if settings.http_listen is not None and ANY_ORIGIN in settings.http_allowed_origins and pays_for_all:
        yield (
            "--http-allowed-origins *: any web page, open in a browser that can connect, can use this "
            "service's key: name the origins, or give callers keys (--api-keys-file FILE)"
        )


def _file_warnings(settings: Settings, provider: ProviderConfig | None) -> Iterator[str]:
    """Yield a warning for each file with a secret that every user of the machine can read."""
    paths = [settings.api_keys_file, settings.tls_key_file]
    if provider is not None and isinstance(provider.key, ReloadingFile):
        paths.append(str(provider.key.path))
    for path in paths:
        with suppress(OSError):
            if path is not None and Path(path).stat().st_mode & stat.S_IROTH:
                yield f"{path}: every user of this machine can read the file: chmod o-r {path}"


def _identifies_callers(settings: Settings) -> bool:
    return settings.upstream_credentials == "caller" or bool(settings.api_keys_file or settings.jwt_issuer)


def _plaintext_warnings(settings: Settings) -> tuple[str, ...]:
    exposed = next(_exposed(settings), None)
    with_keys = (
        bool(settings.api_keys_file or settings.jwt_issuer) or settings.upstream_credentials != "server"
    )
    if exposed is None or not with_keys or settings.tls_cert_file is not None:
        return ()
    way_out = "set --tls-cert-file and --tls-key-file, unless a proxy in front encrypts"
    return (f"{exposed} receives callers' keys in plaintext: {way_out}",)


def _exposed(settings: Settings) -> Iterator[str]:
    """Yield the listeners that other machines can reach, as they are set."""
    for name, address in (("grpc-listen", settings.grpc_listen), ("http-listen", settings.http_listen)):
        if address is not None and not is_loopback(address):
            yield f"--{name} {address}"
