"""Resumes TLS sessions, so that a new connection to a known host needs no full handshake.

Owns the sessions of earlier handshakes, by host, and how long each is used. Connections are not aware
of them.

asyncio passes no session to a handshake. But a context creates its objects of the class named by
`sslobject_class`, and an object accepts a session until its handshake begins. With TLS 1.3 the
server's tickets arrive after the handshake, so a session is stored when the first bytes are read.

One ticket serves many connections. Using each ticket once hides from an eavesdropper that two
connections come from one client. A service that calls one provider from one address has nothing to
hide there, and of a hundred calls at once a single one would get a resumed handshake.
"""

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SESSION_S: Final = 3600.0
"""How long after a certificate was checked a session of that handshake may be resumed."""
UNPROVEN_S: Final = 1.0
"""How long a session is offered while no handshake succeeds: a host that fails on it is offered none."""
HOSTS_MAX: Final = 64

_Clock = Callable[[], float]


@dataclass(slots=True)
class _Entry:
    session: ssl.SSLSession
    certificate_checked_s: float
    unproven_since_s: float | None = None
    """Since when the session has been offered without a handshake that succeeded."""


def resume(tls: ssl.SSLContext, *, now_s: _Clock = time.monotonic) -> None:
    """Let later handshakes of a client's context resume the sessions of earlier ones."""
    sessions = _SessionCache(now_s)

    @final
    class ResumingSslObject(ssl.SSLObject):
        begun = False
        stored = False

        def do_handshake(self) -> None:
            if not self.begun:
                self.begun = True
                if (session := sessions.session_for(self.server_hostname or "")) is not None:
                    self.session = session
            super().do_handshake()
            sessions.handshake_succeeded(self.server_hostname or "")

        def read(self, len: int = 1024, buffer: "WriteableBuffer | None" = None) -> bytes:  # noqa: A002  ssl's name
            data = super().read(len, buffer)
            if not self.stored:
                self.stored = True
                sessions.store(self.server_hostname or "", self.session, resumed=self.session_reused)
            return data

    tls.sslobject_class = ResumingSslObject


@final
class _SessionCache:
    def __init__(self, now_s: _Clock) -> None:
        self._now_s = now_s
        self._entries: dict[str, _Entry] = {}

    def session_for(self, host: str) -> ssl.SSLSession | None:
        """Return the session to offer in a handshake that begins now."""
        entry = self._entries.get(host)
        if entry is None:
            return None
        now_s = self._now_s()
        if entry.unproven_since_s is None:
            entry.unproven_since_s = now_s
        if now_s - entry.certificate_checked_s > SESSION_S or now_s - entry.unproven_since_s > UNPROVEN_S:
            del self._entries[host]
            return None
        return entry.session

    def handshake_succeeded(self, host: str) -> None:
        """Record a handshake that succeeded, whether it resumed a session or not."""
        if (entry := self._entries.get(host)) is not None:
            entry.unproven_since_s = None

    def store(self, host: str, session: ssl.SSLSession | None, *, resumed: bool | None) -> None:
        """Store a session. A resumed handshake checked no certificate, so the time of the check is kept."""
        before = self._entries.get(host)
        if session is None or not session.has_ticket or (resumed and before is None):
            return
        if before is None and len(self._entries) >= HOSTS_MAX:
            self._entries.clear()
        checked_s = before.certificate_checked_s if resumed and before is not None else self._now_s()
        self._entries[host] = _Entry(session, checked_s)
