"""The two files as the settings name them, and what is said where one is wrong at the start."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from togetherchat_server.config import Settings, SettingsError
from togetherchat_server.tenants.gate import GateFiles
from togetherchat_server.tenants.key_file import read_keys
from togetherchat_server.tenants.policy import read_limits

REDIS_SCHEMES: Final = ("redis://", "rediss://", "unix://")

Value = TypeVar("Value")


def load_tenant_files(settings: Settings) -> GateFiles | None:
    """Where keys and limits are, read once to see that they can be; None where callers need no keys.

    Raises:
        SettingsError: a file cannot be read or is wrong, or there are limits and no keys.
    """
    _check_redis(settings)
    if not settings.api_keys_file:
        if settings.tenants_file:
            raise SettingsError("--tenants-file without --api-keys-file: nobody would be known as a tenant")
        return None
    keys, limits = (
        Path(settings.api_keys_file),
        Path(settings.tenants_file) if settings.tenants_file else None,
    )
    _read("api-keys-file", keys, read_keys, hint="; `togetherchat-server keys create` makes it")
    if limits is not None:
        _read("tenants-file", limits, read_limits)
    return GateFiles(keys=keys, limits=limits)


def _check_redis(settings: Settings) -> None:
    """The address is not repeated: it may have a password in it."""
    if not settings.redis_url:
        return
    if not settings.tenants_file:
        raise SettingsError("--redis-url without --tenants-file: there are no limits to share")
    if not settings.redis_url.startswith(REDIS_SCHEMES):
        raise SettingsError(f"--redis-url must begin with {', '.join(REDIS_SCHEMES)}")
    if importlib.util.find_spec("redis") is None:
        raise SettingsError("--redis-url needs another package: pip install 'togetherchat[redis]'")


def _read(setting: str, path: Path, read: Callable[[Path], Value], *, hint: str = "") -> Value:
    try:
        return read(path)
    except FileNotFoundError:
        raise SettingsError(f"--{setting} {path}: there is no such file{hint}") from None
    except OSError as exc:
        raise SettingsError(f"--{setting} {path}: cannot read it: {exc.strerror}") from None
    except ValueError as exc:
        raise SettingsError(f"--{setting} {path}: {exc}") from None
