"""TLS sessions: a new connection to a host whose certificate was checked a while ago is quicker made.

Owns what is left of handshakes, by host, and for how long it is used. Connections know nothing of it.

asyncio hands no session to a handshake. But a context makes its objects of the class that
`sslobject_class` names, and an object takes a session until its handshake begins. With TLS 1.3
the server's tickets come behind the handshake, so a session is kept when the first bytes are read.

One permit serves many connections. To use each once hides from a listener on the way that two
connections come from one client; for a service that asks one provider from one address there is
nothing to hide, and a hundred calls at once would get one quick handshake among them.
"""

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SESSION_S: Final = 3600.0
"""How long after a certificate was checked a connection may be made without one."""
DOUBT_S: Final = 1.0
"""How long a session is offered on without a handshake that succeeds: a host that chokes on it gets none."""
HOSTS_MAX: Final = 64

_Clock = Callable[[], float]


@dataclass(slots=True)
class _Kept:
    session: ssl.SSLSession
    checked_s: float
    doubted_s: float | None = None
    """Since when it has been offered and no handshake has succeeded."""


def resume(tls: ssl.SSLContext, *, now_s: _Clock = time.monotonic) -> None:
    """Let the handshakes of a client's context, from here on, go on from earlier ones of it."""
    sessions = _Sessions(now_s)

    @final
    class Resuming(ssl.SSLObject):
        begun = False
        noted = False

        def do_handshake(self) -> None:
            if not self.begun:
                self.begun = True
                if (session := sessions.offered(self.server_hostname or "")) is not None:
                    self.session = session
            super().do_handshake()
            sessions.proved(self.server_hostname or "")

        def read(self, len: int = 1024, buffer: "WriteableBuffer | None" = None) -> bytes:  # noqa: A002  ssl's name
            read = super().read(len, buffer)
            if not self.noted:
                self.noted = True
                sessions.note(self.server_hostname or "", self.session, resumed=self.session_reused)
            return read

    tls.sslobject_class = Resuming


@final
class _Sessions:
    def __init__(self, now_s: _Clock) -> None:
        self._now_s = now_s
        self._kept: dict[str, _Kept] = {}

    def offered(self, host: str) -> ssl.SSLSession | None:
        """The session for a handshake that begins."""
        kept = self._kept.get(host)
        if kept is None:
            return None
        now_s = self._now_s()
        if kept.doubted_s is None:
            kept.doubted_s = now_s
        if now_s - kept.checked_s > SESSION_S or now_s - kept.doubted_s > DOUBT_S:
            del self._kept[host]
            return None
        return kept.session

    def proved(self, host: str) -> None:
        """A handshake has succeeded, whether by the session or in full."""
        if (kept := self._kept.get(host)) is not None:
            kept.doubted_s = None

    def note(self, host: str, session: ssl.SSLSession | None, *, resumed: bool | None) -> None:
        """Keep a session, and when its certificate was checked: a resumed one's was not, this time."""
        before = self._kept.get(host)
        if session is None or not session.has_ticket or (resumed and before is None):
            return
        if before is None and len(self._kept) >= HOSTS_MAX:
            self._kept.clear()
        checked_s = before.checked_s if resumed and before is not None else self._now_s()
        self._kept[host] = _Kept(session, checked_s)
