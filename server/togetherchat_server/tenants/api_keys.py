"""Authenticates callers by API key: maps a key of this service to its tenant.

The id of a key finds its entry, and its hash is compared in constant time. An unknown id costs the
same work and gets the same error as a wrong secret. Only the holder of the whole key learns that it
was revoked or has expired.
"""

import hmac
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from togetherchat_server.config.reloading_file import ReloadingFile
from togetherchat_server.domain.identity import KEY_SCOPES, SCOPES, Identity
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.tenants.authentication import Authentication
from togetherchat_server.tenants.expiry_watch import ExpiryWatch
from togetherchat_server.tenants.key_file import KeyLine, KeyTable, read_keys, seconds_of
from togetherchat_server.tenants.key_format import key_id_of
from togetherchat_server.tenants.key_state import expires_s

MISTYPED: Final = "`authorization` has a key of this service with a typing error"
WRONG: Final = "the service does not know this key"
REVOKED: Final = "the key was revoked"
EXPIRED: Final = "the key has expired"
TOO_OLD: Final = "the key is older than the service allows"


@dataclass(frozen=True, slots=True, kw_only=True)
class _StoredKey:
    """One key of the file, prepared for comparison. Times are seconds since 1970."""

    digest: bytes
    identity: Identity
    revoked: bool
    expires_s: float | None
    expired: str
    """What a caller is told from then on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _KeyRing:
    table: KeyTable
    keys: dict[str, _StoredKey]


_UNKNOWN: Final = _StoredKey(
    digest=bytes(32), identity=Identity(tenant=""), revoked=True, expires_s=None, expired=EXPIRED
)


@final
class ApiKeys:
    """Authenticates callers by the current API keys file. `wall_clock` returns seconds since 1970.

    Raises:
        OSError: the file cannot be read at the start.
        ValueError: the file is invalid at the start.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        max_age_s: float | None = None,
    ) -> None:
        """A key is rejected `max_age_s` after it was created; None: keys may live for ever."""
        self._file = ReloadingFile(path, lambda path: _read_ring(path, max_age_s), clock=clock)
        self._wall_clock = wall_clock
        self._expiry_watch = ExpiryWatch()

    def authenticate(self, text: str) -> Authentication:
        """Authenticate the holder of a key. The text may be anything that a caller sent.

        The identity of a rejected caller has the id that its key names, and no tenant.
        """
        key_id = key_id_of(text)
        if key_id is None:
            return Authentication.rejected(MISTYPED)
        ring = self._file.current()
        key = ring.keys.get(key_id, _UNKNOWN)
        matches = hmac.compare_digest(key.digest, ring.table.digest(text))
        problem = self._problem(key) if matches and key is not _UNKNOWN else WRONG
        if problem:
            rejection = ServiceError(Reason.INVALID_CREDENTIALS, problem)
            return Authentication(identity=Identity(tenant="", key_id=key_id), rejection=rejection)
        return Authentication(identity=key.identity)

    def stale(self) -> bool:
        """Return whether the file is missing or invalid, so that earlier contents are in effect."""
        return self._file.stale()

    def earliest_expiry_s(self) -> float:
        """Return when the first of the keys that are in use expires; infinity if none does."""
        return self._expiry_watch.earliest_s(self._wall_clock())

    def _problem(self, key: _StoredKey) -> str:
        """Return why a known key is not accepted; empty if it is."""
        if key.revoked:
            return REVOKED
        if key.expires_s is None:
            return ""
        now_s = self._wall_clock()
        if key.expires_s <= now_s:
            return key.expired
        self._expiry_watch.used(key.identity.key_id, key.identity.tenant, key.expires_s, now_s)
        return ""


def _read_ring(path: Path, max_age_s: float | None) -> _KeyRing:
    table = read_keys(path)
    return _KeyRing(table=table, keys={line.id: _stored(line, max_age_s) for line in table.keys.values()})


def _stored(line: KeyLine, max_age_s: float | None) -> _StoredKey:
    end_s = expires_s(line, max_age_s=max_age_s)
    at_expiry = bool(line.expires) and end_s == seconds_of(line.expires)
    return _StoredKey(
        digest=bytes.fromhex(line.digest),
        identity=Identity(
            tenant=line.tenant,
            key_id=line.id,
            scopes=frozenset(SCOPES[name] for name in line.scopes) or KEY_SCOPES,
            models=line.models,
            networks=tuple(ipaddress.ip_network(text, strict=False) for text in line.networks),
        ),
        revoked=bool(line.revoked),
        expires_s=end_s,
        expired=EXPIRED if at_expiry else TOO_OLD,
    )
