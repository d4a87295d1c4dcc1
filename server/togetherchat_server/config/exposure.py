"""Who could spend this service's key: a start that lets anyone do so is refused."""

from togetherchat_server.config.settings import Settings, SettingsError
from togetherchat_server.config.upstream import Upstream

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1", "[::1]")


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address (HOST:PORT)."""
    return address.rpartition(":")[0] in LOOPBACK_HOSTS


def refuse_open_access(settings: Settings, upstream: Upstream) -> None:
    """Refuse a start that would let strangers spend this service's key.

    Raises:
        SettingsError: it would, and nobody said that it may.
    """
    pays = upstream.key is not None and settings.upstream_key != "caller"
    open_to_all = [
        f"--{name} {address}"
        for name, address in (("listen", settings.listen), ("http", settings.http))
        if address != "off" and not is_loopback(address)
    ]
    if pays and open_to_all and not (settings.keys or settings.allow_open_access):
        raise SettingsError(
            f"{open_to_all[0]} would let anyone who reaches it spend this service's key: listen on "
            "127.0.0.1, give callers keys (--keys), let them bring theirs (--upstream-key caller), or say "
            "--allow-open-access"
        )
