"""Checks that settings of one kind share: a file that must be readable, and optional packages."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from togetherchat_server.config import SettingsError

Value = TypeVar("Value")


def has_packages() -> bool:
    """Return whether the packages for JWTs and client certificates are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("jwt", "cryptography"))


def check_packages(feature: str) -> None:
    """Raise SettingsError if the packages for JWTs and client certificates are not installed."""
    if not has_packages():
        raise SettingsError(
            f"{feature}: needs the packages pyjwt and cryptography; install them with: "
            "pip install 'togetherchat[identity]'"
        )


def check_file(setting: str, path: Path, read: Callable[[Path], Value], *, hint: str = "") -> Value:
    """Return what the file contains. Raises SettingsError."""
    try:
        return read(path)
    except FileNotFoundError:
        raise SettingsError(f"--{setting} {path}: file not found{hint}") from None
    except OSError as exc:
        raise SettingsError(f"--{setting} {path}: cannot read the file: {exc.strerror}") from None
    except ValueError as exc:
        raise SettingsError(f"--{setting} {path}: {exc}") from None
