"""Checks the ledger's settings at the start, and loads none of its packages if it is off."""

import importlib.util

from togetherchat_server.config import Settings, SettingsError

PACKAGES = ("sqlalchemy", "alembic")


def check_usage_packages() -> None:
    """Raise SettingsError if the packages of the ledger are not installed."""
    for name in PACKAGES:
        if importlib.util.find_spec(name) is None:
            raise SettingsError(
                f"--usage-database needs the package {name}; install it with: "
                "pip install 'togetherchat[server,usage]'"
            )


def check_usage_settings(settings: Settings) -> None:
    """Open the database and the folder, and close them again. Migrates the tables of SQLite.

    Raises:
        SettingsError: a package is missing, or the database or the folder cannot be used.
    """
    if settings.usage_database is None:
        return
    check_usage_packages()
    # Imported on use: optional dependencies, which take 0.3 s to load.
    from togetherchat_server.usage.ledger import check_ledger  # noqa: PLC0415

    check_ledger(settings)
