"""Whose call it is: from the key of its `authorization` to a tenant.

A key is looked up by its id and compared by its hash in constant time. An id that nobody has costs
the same work and gets the same answer as a wrong secret. Only who holds the whole of a key hears
that it was revoked or has expired.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.tenants.key_file import KeyLine, KeyTable, read_keys, seconds_of
from togetherchat_server.tenants.key_format import key_id_of
from togetherchat_server.tenants.reloading_file import ReloadingFile

MISSING: Final = "send a key of this service as `authorization: Bearer tc_...`"
NO_KEY: Final = (
    "`authorization` holds no key of this service (tc_...), or one with a typing error; "
    "a Together key of your own goes into `x-together-api-key`"
)
WRONG: Final = "the service does not know this key"
REVOKED: Final = "the key was revoked"
EXPIRED: Final = "the key has expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who calls: the tenant, and the id of the key that said so, which is no secret."""

    tenant: str
    key_id: str


NOBODY: Final = Identity(tenant="", key_id="")


@dataclass(frozen=True, slots=True, kw_only=True)
class _KeyEntry:
    """One key, ready to be compared with."""

    digest: bytes
    identity: Identity
    revoked: bool
    expires_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ring:
    table: KeyTable
    known: dict[str, _KeyEntry]


_UNKNOWN: Final = _KeyEntry(digest=bytes(32), identity=NOBODY, revoked=True, expires_s=None)


@final
class Authenticator:
    """The keys of a file, as it is now. `wall_clock` gives seconds since 1970.

    Raises:
        OSError: the file cannot be read at the start.
        ValueError: it is no file of keys then.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float], wall_clock: Callable[[], float]) -> None:
        self._file = ReloadingFile(path, _ring, clock=clock)
        self._wall_clock = wall_clock

    def identity_of(self, text: str) -> Identity:
        """Who holds this key. The text may be anything that a caller sent.

        Raises:
            ServiceError: INVALID_CREDENTIALS.
        """
        key_id = key_id_of(text)
        if key_id is None:
            raise ServiceError(Reason.INVALID_CREDENTIALS, NO_KEY)
        ring = self._file.current()
        known = ring.known.get(key_id, _UNKNOWN)
        right = hmac.compare_digest(known.digest, ring.table.digest(text))
        if not right or known is _UNKNOWN:
            raise ServiceError(Reason.INVALID_CREDENTIALS, WRONG)
        if known.revoked:
            raise ServiceError(Reason.INVALID_CREDENTIALS, REVOKED)
        if known.expires_s is not None and known.expires_s <= self._wall_clock():
            raise ServiceError(Reason.INVALID_CREDENTIALS, EXPIRED)
        return known.identity


def _ring(path: Path) -> _Ring:
    table = read_keys(path)
    return _Ring(table=table, known={line.id: _ready(line) for line in table.keys.values()})


def _ready(line: KeyLine) -> _KeyEntry:
    return _KeyEntry(
        digest=bytes.fromhex(line.digest),
        identity=Identity(tenant=line.tenant, key_id=line.id),
        revoked=bool(line.revoked),
        expires_s=seconds_of(line.expires) if line.expires else None,
    )
