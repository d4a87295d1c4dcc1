"""Authenticates callers by JWT: checks the token, and finds the tenant of the claim that names it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

from togetherchat_server.domain.bounded import remember
from togetherchat_server.domain.identity import Identity
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.tenants.authentication import Authentication
from togetherchat_server.tenants.identity_map import AmbiguousIdentityError
from togetherchat_server.tenants.jwt.key_set import KeySet
from togetherchat_server.tenants.jwt.key_source import KeySource, KeysUnavailableError
from togetherchat_server.tenants.jwt.token import Claims, TokenError, TokenRules, UnknownKeyError, verify
from togetherchat_server.tenants.key_file import is_tenant_name
from togetherchat_server.tenants.tenants_file import TenantsFile

REMEMBERED_MAX: Final = 4096
"""Tokens whose check is remembered, and unknown keys."""
UNKNOWN_KEY_S: Final = 10.0
"""How long a key that the issuer did not have is not looked for again."""
UNKNOWN_KEY: Final = "the token is signed with a key that its issuer does not publish"
UNAVAILABLE: Final = "the keys of the token's issuer are not available now; retry"
NO_TENANT: Final = "no tenant of this service lists the holder of the token"
AMBIGUOUS: Final = "several tenants of this service list the holder of the token"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verified:
    """The claims of a token that was checked against these keys."""

    claims: Claims
    keys: KeySet


@final
class JwtAuthenticator:
    """Authenticates the holders of an issuer's tokens. `wall_clock` returns seconds since 1970.

    A checked token is remembered by its hash until it expires, or the keys are replaced.
    """

    def __init__(
        self,
        rules: TokenRules,
        source: KeySource,
        tenants: TenantsFile,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._rules = rules
        self._source = source
        self._tenants = tenants
        self._clock = clock
        self._wall_clock = wall_clock
        self._verified: dict[bytes, _Verified] = {}
        self._unknown_keys: dict[str, float] = {}

    def authenticate(self, text: str) -> Authentication:
        """Authenticate the holder of a token, which may be any text that a caller sent."""
        keys = self._source.current()
        if keys is None:
            return Authentication(pending=True)
        try:
            return self._authenticate(text, keys)
        except UnknownKeyError as exc:
            if self._unknown_keys.get(exc.key_id, 0.0) > self._clock():
                return Authentication.rejected(UNKNOWN_KEY)
            return Authentication(pending=True)

    async def settle(self, text: str) -> Authentication:
        """Authenticate the holder of a token whose key was not known, after looking for new keys."""
        try:
            await self._source.refresh()
        except KeysUnavailableError:
            return Authentication.rejected(UNAVAILABLE, Reason.AUTHENTICATION_UNAVAILABLE)
        keys = self._source.current()
        if keys is None:
            return Authentication.rejected(UNAVAILABLE, Reason.AUTHENTICATION_UNAVAILABLE)
        try:
            return self._authenticate(text, keys)
        except UnknownKeyError as exc:
            remember(self._unknown_keys, exc.key_id, self._clock() + UNKNOWN_KEY_S, at_most=REMEMBERED_MAX)
            return Authentication.rejected(UNKNOWN_KEY)

    def _authenticate(self, text: str, keys: KeySet) -> Authentication:
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
        known = self._verified.get(digest)
        if known is not None and known.keys is keys and known.claims.expires_s > self._wall_clock():
            return self._identified(known.claims)
        try:
            claims = verify(text, keys, self._rules)
        except TokenError as exc:
            return Authentication.rejected(str(exc))
        remember(self._verified, digest, _Verified(claims=claims, keys=keys), at_most=REMEMBERED_MAX)
        return self._identified(claims)

    def _identified(self, claims: Claims) -> Authentication:
        """Return the identity of the holder. Its tenant is looked up anew: the file may have changed."""
        try:
            tenant = self._tenants.current().subjects.tenant_of((claims.tenant_name,))
        except AmbiguousIdentityError:
            tenant, problem = None, AMBIGUOUS
        else:
            problem = NO_TENANT
            if tenant is None and is_tenant_name(claims.tenant_name):
                tenant = claims.tenant_name
        if tenant is None:
            identity = Identity(tenant="", subject=claims.subject)
            return Authentication(
                identity=identity, rejection=ServiceError(Reason.INVALID_CREDENTIALS, problem)
            )
        return Authentication(identity=Identity(tenant=tenant, subject=claims.subject, scopes=claims.scopes))
