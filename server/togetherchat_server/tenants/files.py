"""Checks the tenants' files and the address of Redis at the start, with errors that name the setting."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from togetherchat_server.config import Settings, SettingsError
from togetherchat_server.tenants.key_file import read_keys
from togetherchat_server.tenants.tenants_file import read_tenants

REDIS_SCHEMES: Final = ("redis://", "rediss://", "unix://")


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantFiles:
    """The paths of the API keys file and the tenants file. Without a tenants file, no limits apply."""

    keys: Path
    tenants: Path | None


def load_tenant_files(settings: Settings) -> TenantFiles | None:
    """Check both files by reading them, and return their paths; None if callers need no key.

    Raises:
        SettingsError: a file cannot be read or is invalid, or a setting that another one needs is not set.
    """
    _check_redis(settings)
    if not settings.api_keys_file:
        if settings.tenants_file:
            raise SettingsError(
                "--tenants-file requires --api-keys-file: without keys a caller has no tenant"
            )
        return None
    keys = Path(settings.api_keys_file)
    _check("api-keys-file", keys, read_keys, hint="; create it with `togetherchat-server keys create`")
    tenants = Path(settings.tenants_file) if settings.tenants_file else None
    if tenants is not None:
        _check("tenants-file", tenants, read_tenants)
    return TenantFiles(keys=keys, tenants=tenants)


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


def _check(setting: str, path: Path, read: Callable[[Path], object], *, hint: str = "") -> None:
    try:
        read(path)
    except FileNotFoundError:
        raise SettingsError(f"--{setting} {path}: file not found{hint}") from None
    except OSError as exc:
        raise SettingsError(f"--{setting} {path}: cannot read the file: {exc.strerror}") from None
    except ValueError as exc:
        raise SettingsError(f"--{setting} {path}: {exc}") from None
