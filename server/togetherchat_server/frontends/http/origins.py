"""Which web pages may send requests: those of this service's own site, and those of allowed origins.

A browser names the site of a page in `Origin`. The rules for pages of other sites are at the head of
`routes`; here is what CORS adds (https://fetch.spec.whatwg.org/#http-cors-protocol): a page of an
allowed origin asks before it sends JSON (the preflight), and may read the responses, errors included.

Credentials are never allowed: a browser then attaches cookies and client certificates of its own
accord. The page sends its key itself, in `authorization`.
"""

from collections.abc import Collection, Mapping
from http import HTTPMethod
from typing import Final, final

from togetherchat_server.calls.response_metadata import ResponseMetadata
from togetherchat_server.config import LOOPBACK_HOSTS
from togetherchat_server.domain.addresses import TrustedProxies
from togetherchat_server.domain.origins import Origin

ANY: Final = "*"
METHODS: Final = "GET, HEAD, POST"
MAX_AGE_S: Final = 7200
"""How long a browser may keep the answer to a preflight: as long as Chrome does at most."""
REQUESTED_METHOD: Final = "access-control-request-method"
REQUESTED_HEADERS: Final = "access-control-request-headers"
REQUESTED_CHARACTERS_MAX: Final = 4096
_NAME_CHARACTERS: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz, ")


@final
class PagePolicy:
    """Decides about the pages of one listener.

    Args:
        allowed: origins such as `https://chat.example.com`, or `*` for every page.
        local_pages_only: whether this service's own pages must have come from a loopback name.
        trusted_proxies: the proxies whose `x-forwarded-host` names the site that a page came from.
    """

    def __init__(
        self, *, allowed: Collection[str], local_pages_only: bool, trusted_proxies: TrustedProxies
    ) -> None:
        self._any = ANY in allowed
        self._allowed = frozenset(Origin.parse(text) for text in allowed) - {None}
        self._local_pages_only = local_pages_only
        self._trusted_proxies = trusted_proxies

    def accepts(self, headers: Mapping[str, str], peer: str) -> bool:
        """Return whether a request may be served: no page sent it, or one that is allowed."""
        text = headers.get("origin")
        return text is None or self._is_allowed(text) or self._is_own(text, headers, peer)

    def headers(self, origin: str | None) -> ResponseMetadata:
        """Return the headers that let a page of an allowed origin read a response, whatever its status."""
        if self._any:
            return _readable(ANY)
        if not self._allowed:
            return ()
        vary = (("vary", "Origin"),)
        return (*vary, *_readable(origin)) if origin and self._is_allowed(origin) else vary

    def preflight(self, method: str, headers: Mapping[str, str]) -> ResponseMetadata | None:
        """Return the further headers of the answer to an allowed origin's preflight; None if it is not one.

        Every path gets the same answer, so that the page can read the error of a wrong one.
        """
        origin = headers.get("origin")
        if method != HTTPMethod.OPTIONS or REQUESTED_METHOD not in headers or origin is None:
            return None
        if not self._is_allowed(origin):
            return None
        return (
            ("access-control-allow-methods", METHODS),
            *_allowed_headers(headers.get(REQUESTED_HEADERS, "")),
            ("access-control-max-age", str(MAX_AGE_S)),
        )

    def _is_allowed(self, text: str) -> bool:
        return self._any or Origin.parse(text) in self._allowed

    def _is_own(self, text: str, headers: Mapping[str, str], peer: str) -> bool:
        """Return whether this service's own site served the page.

        A page whose name was made to resolve to this machine can send any header, `x-forwarded-host`
        too, and comes from a loopback address, which may be trusted: so its name must be a loopback one.
        """
        origin = Origin.parse(text)
        if origin is None or (self._local_pages_only and origin.host not in LOOPBACK_HOSTS):
            return False
        if origin.is_at(headers.get("host", "")):
            return True
        forwarded = headers.get("x-forwarded-host", "").partition(",")[0].strip()
        return self._trusted_proxies.trusts(peer) and origin.is_at(forwarded)


def _readable(origin: str) -> ResponseMetadata:
    """`*` exposes every header of a response to a request without credentials."""
    return ("access-control-allow-origin", origin), ("access-control-expose-headers", "*")


def _allowed_headers(requested: str) -> ResponseMetadata:
    """Allow what the page asks for by name, since `*` does not include `authorization`."""
    if (
        not requested
        or len(requested) > REQUESTED_CHARACTERS_MAX
        or set(requested.lower()) - _NAME_CHARACTERS
    ):
        return ()
    return (("access-control-allow-headers", requested),)
