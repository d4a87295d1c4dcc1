"""The settings of JWT callers, checked at the start."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from togetherchat_server.config import LOOPBACK_HOSTS, Settings, SettingsError
from togetherchat_server.tenants.setting_checks import check_file, check_packages

NEED_URL: Final = ("jwt_jwks_ca_file", "jwt_jwks_token_file")
NEED_ISSUER: Final = ("jwt_audience", "jwt_jwks_url", "jwt_jwks_file", *NEED_URL)


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtSettings:
    """How the tokens of an issuer are checked. Its keys are at the URL or in the file."""

    issuer: str
    audience: str
    tenant_claim: str
    jwks_url: str | None
    jwks_file: Path | None
    jwks_ca_file: Path | None
    jwks_token_file: Path | None


def load_jwt_settings(settings: Settings) -> JwtSettings | None:
    """Check the settings, and the files by reading them; None if JWTs are not accepted.

    Raises:
        SettingsError: a file cannot be read or is invalid, or a setting that another one needs is not set.
    """
    if settings.jwt_issuer is None:
        _reject(settings, NEED_ISSUER, needed="--jwt-issuer")
        return None
    if settings.jwt_audience is None:
        raise SettingsError(
            "--jwt-issuer requires --jwt-audience: without it, tokens for any other service would be accepted"
        )
    if (settings.jwt_jwks_url is None) == (settings.jwt_jwks_file is None):
        raise SettingsError("--jwt-issuer requires either --jwt-jwks-url or --jwt-jwks-file")
    check_packages("--jwt-issuer")
    jwt = JwtSettings(
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        tenant_claim=settings.jwt_tenant_claim,
        jwks_url=settings.jwt_jwks_url,
        jwks_file=_path(settings.jwt_jwks_file),
        jwks_ca_file=_path(settings.jwt_jwks_ca_file),
        jwks_token_file=_path(settings.jwt_jwks_token_file),
    )
    if jwt.jwks_url is None:
        _reject(settings, NEED_URL, needed="--jwt-jwks-url")
    else:
        _check_url(jwt.jwks_url)
    _check_files(jwt)
    return jwt


def _reject(settings: Settings, names: tuple[str, ...], *, needed: str) -> None:
    """Raise SettingsError if one of the settings is set, although the needed one is not."""
    for name in names:
        if getattr(settings, name) is not None:
            raise SettingsError(f"--{name.replace('_', '-')} requires {needed}")


def _check_files(jwt: JwtSettings) -> None:
    # PyJWT is an optional dependency.
    from togetherchat_server.tenants.jwt.key_set import read_key_set  # noqa: PLC0415

    if jwt.jwks_file is not None:
        check_file("jwt-jwks-file", jwt.jwks_file, lambda path: read_key_set(path.read_bytes()))
    if jwt.jwks_ca_file is not None:
        check_file("jwt-jwks-ca-file", jwt.jwks_ca_file, lambda path: ssl.create_default_context(cafile=path))
    if jwt.jwks_token_file is not None:
        check_file("jwt-jwks-token-file", jwt.jwks_token_file, lambda path: path.read_text(encoding="ascii"))


def _check_url(url: str) -> None:
    """Raise SettingsError unless nobody on the way can replace the keys at the URL."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if not host or parts.username or parts.password or parts.fragment:
        raise SettingsError("--jwt-jwks-url must be an HTTPS URL without user, password or fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and host in LOOPBACK_HOSTS):
        raise SettingsError("--jwt-jwks-url must begin with https://; http:// is for this machine only")


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
