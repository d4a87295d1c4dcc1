"""Authenticates callers: maps the key in `authorization` to a tenant.

The id of a key finds its entry, and its hash is compared in constant time. An unknown id costs the
same work and gets the same error as a wrong secret. Only the holder of the whole key learns that it
was revoked or has expired.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from togetherchat_server.config.reloading_file import ReloadingFile
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.tenants.key_file import KeyLine, KeyTable, read_keys, seconds_of
from togetherchat_server.tenants.key_format import key_id_of

MISSING: Final = "send a key of this service as `authorization: Bearer tc_...`"
NO_KEY: Final = (
    "`authorization` has no key of this service (tc_...), or one with a typing error; "
    "send your own Together key as `x-together-api-key`"
)
WRONG: Final = "the service does not know this key"
REVOKED: Final = "the key was revoked"
EXPIRED: Final = "the key has expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The tenant of a caller, and the id of its key, which is not secret."""

    tenant: str
    key_id: str


ANONYMOUS: Final = Identity(tenant="", key_id="")
"""The identity of every caller if the service has no API keys file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _StoredKey:
    """One key of the file, prepared for comparison."""

    digest: bytes
    identity: Identity
    revoked: bool
    expires_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _KeyRing:
    table: KeyTable
    keys: dict[str, _StoredKey]


_UNKNOWN: Final = _StoredKey(digest=bytes(32), identity=ANONYMOUS, revoked=True, expires_s=None)


@final
class Authenticator:
    """Authenticates callers by the current API keys file. `wall_clock` returns seconds since 1970.

    Raises:
        OSError: the file cannot be read at the start.
        ValueError: the file is invalid at the start.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float], wall_clock: Callable[[], float]) -> None:
        self._file = ReloadingFile(path, _read_ring, clock=clock)
        self._wall_clock = wall_clock

    def authenticate(self, text: str) -> tuple[Identity, ServiceError | None]:
        """Return the identity of the holder of a key, and None; or why the key is rejected.

        The text may be anything that a caller sent. The identity of a rejected caller has the id that its
        key names, and no tenant.
        """
        key_id = key_id_of(text)
        if key_id is None:
            return ANONYMOUS, ServiceError(Reason.INVALID_CREDENTIALS, NO_KEY)
        ring = self._file.current()
        key = ring.keys.get(key_id, _UNKNOWN)
        matches = hmac.compare_digest(key.digest, ring.table.digest(text))
        rejection = WRONG if not matches or key is _UNKNOWN else self._rejection(key)
        if rejection:
            rejected = Identity(tenant="", key_id=key_id)
            return rejected, ServiceError(Reason.INVALID_CREDENTIALS, rejection)
        return key.identity, None

    def _rejection(self, key: _StoredKey) -> str:
        if key.revoked:
            return REVOKED
        return EXPIRED if key.expires_s is not None and key.expires_s <= self._wall_clock() else ""


def _read_ring(path: Path) -> _KeyRing:
    table = read_keys(path)
    return _KeyRing(table=table, keys={line.id: _stored(line) for line in table.keys.values()})


def _stored(line: KeyLine) -> _StoredKey:
    return _StoredKey(
        digest=bytes.fromhex(line.digest),
        identity=Identity(tenant=line.tenant, key_id=line.id),
        revoked=bool(line.revoked),
        expires_s=seconds_of(line.expires) if line.expires else None,
    )
