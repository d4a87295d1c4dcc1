"""Origins of web pages: scheme, host and port, as the header `Origin` names them (RFC 6454)."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple, Self, final

DEFAULT_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}

_HOST: Final = r"\[[0-9a-fA-F:.]+\]|[^\x00-\x20\x7f/?#@*:\[\]\\,]+"
_ORIGIN: Final = re.compile(rf"([A-Za-z][A-Za-z0-9+.-]*)://({_HOST})(?::([0-9]{{1,5}}))?", re.ASCII)
_AUTHORITY: Final = re.compile(rf"({_HOST})(?::([0-9]{{1,5}}))?", re.ASCII)


@final
class Origin(NamedTuple):
    """An origin in lower case. `port` is None if the scheme has no default and none is named."""

    scheme: str
    host: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse `https://chat.example.com` or `app://obsidian.md`; None for `null` and other texts."""
        parts = _ORIGIN.fullmatch(text)
        if parts is None:
            return None
        scheme = parts[1].lower()
        return cls(scheme, parts[2].lower(), _port(parts[3], scheme))

    def is_at(self, authority: str) -> bool:
        """Return whether an authority, as in the header `Host`, is the server that this page came from.

        An authority without a port has the default port of the page's scheme: behind a proxy, this
        service does not know the scheme that the browser used.
        """
        parts = _AUTHORITY.fullmatch(authority)
        if parts is None or self.scheme not in DEFAULT_PORTS:
            return False
        return (self.host, self.port) == (parts[1].lower(), _port(parts[2], self.scheme))


def _port(digits: str | None, scheme: str) -> int | None:
    return int(digits) if digits else DEFAULT_PORTS.get(scheme)
