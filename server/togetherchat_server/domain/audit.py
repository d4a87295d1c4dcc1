"""The security events of the service: their names, and the way to the audit log.

Any layer may call `emit`. An event goes to a logger of its own, whose handler belongs to
`telemetry/audit_log.py`. Without a handler the event is discarded, so a service without an audit log
pays for one attribute and one comparison.

The fields of an event name a key, a caller or a file. They never hold a key, a token or a prompt.
"""

import enum
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

FieldValue: TypeAlias = str | int | float

AUDIT_LOGGER: Final = logging.getLogger("togetherchat_audit")
"""The logger of security events. Its records have an `AuditEntry` as their message."""
AUDIT_LOGGER.propagate = False
AUDIT_LOGGER.setLevel(logging.INFO)


class AuditEvent(enum.StrEnum):
    """What happened. The page docs/audit-log.md lists the fields of each event."""

    KEY_CREATED = "key_created"
    """An operator created an API key."""
    KEY_REVOKED = "key_revoked"
    """An operator revoked an API key."""
    KEY_EXPIRING = "key_expiring"
    """A key that callers use expires soon."""
    CREDENTIAL_FIRST_USED = "credential_first_used"
    """A credential was accepted from an address for the first time since the process started."""
    CREDENTIAL_REJECTED = "credential_rejected"
    """A call was rejected for its credential."""
    FILE_RELOADED = "file_reloaded"
    """A file with keys, limits or certificates was replaced, and its new contents are in effect."""
    FILE_UNREADABLE = "file_unreadable"
    """Such a file is missing or invalid, and its last valid contents stay in effect."""
    PROVIDER_KEY_CHANGED = "provider_key_changed"
    """The file with the provider's key was replaced, and the new key is in use."""
    PROVIDER_KEY_UNREADABLE = "provider_key_unreadable"
    """The file with the provider's key is missing or invalid, and the last key stays in use."""
    JWKS_REFRESHED = "jwks_refreshed"
    """The public keys that verify callers' JWTs were read again."""
    JWKS_UNAVAILABLE = "jwks_unavailable"
    """The public keys that verify callers' JWTs cannot be read, and the last ones stay in use."""
    QUOTA_RESET = "quota_reset"
    """A caller reset the quotas of a tenant."""
    ADMIN_ACCESS = "admin_access"
    """A page of the admin port was requested, other than a probe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One security event."""

    event: AuditEvent
    time_s: float
    """Seconds since 1970."""
    fields: Mapping[str, FieldValue] = field(default_factory=dict[str, FieldValue])


def emit(event: AuditEvent, **fields: FieldValue) -> None:
    """Record a security event. Fields that are empty texts are left out. Never raises, and never waits."""
    if AUDIT_LOGGER.handlers:
        AUDIT_LOGGER.info(audit_entry(event, time.time(), **fields))


def audit_entry(event: AuditEvent, time_s: float, **fields: FieldValue) -> AuditEntry:
    """Return the entry of an event at a time in seconds since 1970, without the fields that are empty."""
    present = {name: value for name, value in fields.items() if value != ""}
    return AuditEntry(event=event, time_s=time_s, fields=present)
