"""The provider: its base URL and this service's own key for it.

The provider has variables of its own: `TOGETHER_API_KEY`, `TOGETHER_API_KEY_FILE` and
`TOGETHER_BASE_URL`.
"""

import importlib.util
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from togetherchat_server.config.proxy import Proxy, parse_proxy, proxy_from_environment
from togetherchat_server.config.reloading_file import ReloadingFile
from togetherchat_server.config.settings import Settings, SettingsError
from togetherchat_server.config.types import AUTO, OFF
from togetherchat_server.domain.audit import AuditEvent
from togetherchat_server.domain.secret import KEY_CHARACTERS_MAX, Secret

TOGETHER_BASE_URL = "https://api.together.ai/v1"
TOGETHER_DOMAINS = ("together.ai", "together.xyz")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderConfig:
    """The base URL of an OpenAI-compatible API, and this service's own key for it."""

    base_url: str
    key: ReloadingFile[Secret] | Secret | None
    proxy: Proxy | None = None
    """The egress proxy through which the provider is reached."""
    ca_file: Path | None = None
    """Authorities that are trusted beside the usual ones."""

    def current_key(self) -> Secret | None:
        """Return the current key. A key file is reloaded within a second after it was replaced."""
        return self.key.current() if isinstance(self.key, ReloadingFile) else self.key


def load_provider(settings: Settings, environment: Mapping[str, str]) -> ProviderConfig:
    """Read the provider from the environment.

    Raises:
        SettingsError: the base URL, a proxy or an authority is invalid, or the key is missing or unreadable.
    """
    base_url = _base_url(environment.get("TOGETHER_BASE_URL", "").strip() or TOGETHER_BASE_URL)
    key = _key(environment)
    if key is None and settings.upstream_credentials == "server" and is_together(base_url):
        raise SettingsError(
            "no key for Together: set TOGETHER_API_KEY or TOGETHER_API_KEY_FILE, "
            "or use the callers' own keys (--upstream-credentials caller), "
            "or start the sandbox (--sandbox)"
        )
    return ProviderConfig(
        base_url=base_url,
        key=key,
        proxy=_proxy(settings, base_url, environment),
        ca_file=_ca_file(settings),
    )


def read_key(path: Path) -> Secret:
    """Read a key from a file, such as a mounted Secret.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file has no usable key. The message does not repeat its text.
    """
    # A key is one line. A much longer file is something else, mounted by mistake.
    with path.open(encoding="ascii", errors="replace") as file:
        return Secret(file.read(KEY_CHARACTERS_MAX + 2))


def _key(environment: Mapping[str, str]) -> ReloadingFile[Secret] | Secret | None:
    text, path = environment.get("TOGETHER_API_KEY", ""), environment.get("TOGETHER_API_KEY_FILE", "")
    try:
        if text.strip():
            return Secret(text)
        if path:
            return ReloadingFile(
                Path(path),
                read_key,
                reloaded=AuditEvent.PROVIDER_KEY_CHANGED,
                unreadable=AuditEvent.PROVIDER_KEY_UNREADABLE,
            )
    except ValueError as exc:
        raise SettingsError(f"{'TOGETHER_API_KEY' if text.strip() else path}: {exc}") from None
    except OSError as exc:
        raise SettingsError(f"TOGETHER_API_KEY_FILE: cannot read {path}: {exc.strerror}") from None
    return None


def _proxy(settings: Settings, base_url: str, environment: Mapping[str, str]) -> Proxy | None:
    if settings.upstream_proxy == OFF:
        return None
    try:
        if settings.upstream_proxy == AUTO:
            proxy = proxy_from_environment(base_url, environment)
        else:
            proxy = parse_proxy(settings.upstream_proxy)
    except ValueError as exc:
        raise SettingsError(f"{exc}; to ignore it, set --upstream-proxy off") from None
    if proxy is not None and proxy.is_socks and importlib.util.find_spec("python_socks") is None:
        raise SettingsError(
            f"the SOCKS proxy {proxy} needs the package python-socks; install it with: "
            "pip install 'togetherchat[socks]'"
        )
    return proxy


def _ca_file(settings: Settings) -> Path | None:
    if settings.upstream_ca_file is None:
        return None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(settings.upstream_ca_file)
    except ssl.SSLError:
        problem = "it has no PEM certificate"
    except OSError as exc:
        problem = exc.strerror
    else:
        return Path(settings.upstream_ca_file)
    raise SettingsError(f"--upstream-ca-file: cannot use {settings.upstream_ca_file}: {problem}")


def _base_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in {"http", "https"} or not host or port == 0:
        raise SettingsError(
            "TOGETHER_BASE_URL must be an http or https URL, for example " + TOGETHER_BASE_URL
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise SettingsError("TOGETHER_BASE_URL must not contain a user, password, query or fragment")
    path = parts.path.rstrip("/") or "/v1"
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def is_together(base_url: str) -> bool:
    """Return whether a base URL is Together's own, which requires a key."""
    host = urlsplit(base_url).hostname or ""
    return any(host == domain or host.endswith("." + domain) for domain in TOGETHER_DOMAINS)
