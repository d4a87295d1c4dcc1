"""Checks the settings and files of tenants at the start, with errors that name the setting."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from togetherchat_server.config import Settings, SettingsError
from togetherchat_server.tenants.jwt_settings import JwtSettings, load_jwt_settings
from togetherchat_server.tenants.key_file import read_keys
from togetherchat_server.tenants.setting_checks import check_file, check_packages, has_packages
from togetherchat_server.tenants.tenants_file import read_tenants

CREATE_HINT: Final = "; create it with `togetherchat-server keys create`"
REDIS_SCHEMES: Final = ("redis://", "rediss://", "unix://")


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantFiles:
    """The ways in which callers authenticate, and their files. Without a tenants file, no limits apply."""

    keys: Path | None
    tenants: Path | None
    jwt: JwtSettings | None
    certificates: bool
    """Whether a client certificate may name the tenant."""


def load_tenant_files(settings: Settings) -> TenantFiles | None:
    """Check the files by reading them, and return their paths; None if callers do not authenticate.

    Raises:
        SettingsError: a file cannot be read or is invalid, or a setting that another one needs is not set.
    """
    _check_redis(settings)
    jwt = load_jwt_settings(settings)
    tenants = Path(settings.tenants_file) if settings.tenants_file else None
    certificates = settings.tls_client_ca_file is not None and tenants is not None
    if not (settings.api_keys_file or jwt or certificates):
        if settings.tenants_file:
            raise SettingsError(
                "--tenants-file requires --api-keys-file, --jwt-issuer or --tls-client-ca-file: without a "
                "credential a caller has no tenant"
            )
        return None
    keys = Path(settings.api_keys_file) if settings.api_keys_file else None
    if keys is not None:
        check_file("api-keys-file", keys, read_keys, hint=CREATE_HINT)
    if tenants is not None:
        table = check_file("tenants-file", tenants, read_tenants)
        if certificates and (table.certificates or not (keys or jwt)):
            check_packages("client certificates of tenants")
        certificates = certificates and has_packages()
        if table.has_budgets and settings.usage_database is None:
            raise SettingsError(
                "--tenants-file: a budget requires --usage-database, so that a restart knows what was spent: "
                "for example --usage-database sqlite:///usage.sqlite"
            )
    return TenantFiles(keys=keys, tenants=tenants, jwt=jwt, certificates=certificates)


def _check_redis(settings: Settings) -> None:
    # The messages do not repeat the address: it may contain a password.
    if not settings.redis_url:
        return
    if not settings.tenants_file:
        raise SettingsError("--redis-url requires --tenants-file: without limits there is nothing to share")
    if not settings.redis_url.startswith(REDIS_SCHEMES):
        raise SettingsError(f"--redis-url must begin with {', '.join(REDIS_SCHEMES)}")
    if importlib.util.find_spec("redis") is None:
        raise SettingsError(
            "--redis-url needs the package redis; install it with: pip install 'togetherchat[redis]'"
        )
