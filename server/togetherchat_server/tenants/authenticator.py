"""Authenticates callers: by API key, JWT or client certificate, whichever of them the service accepts.

A key and a JWT are decided by the call's metadata alone. Two cases need more: a certificate is known only
with the connection, and a JWT with an unknown key needs a request to its issuer. Such a call is pending
until `settle`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, final

from togetherchat_server.domain.identity import Identity
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.tenants.api_keys import ApiKeys
from togetherchat_server.tenants.authentication import Authentication
from togetherchat_server.tenants.tenants_file import TenantsFile

if TYPE_CHECKING:
    from togetherchat_server.tenants.client_certificates import ClientCertificates
    from togetherchat_server.tenants.jwt.authenticator import JwtAuthenticator

KEY_PREFIX: Final = "tc_"
TOKEN_DOTS: Final = 2
NO_KEYS: Final = "the service accepts no API keys"
DISAGREEING: Final = "the client certificate and `authorization` belong to different tenants"
UNLISTED_CERTIFICATE: Final = "no tenant of this service lists the client certificate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mechanisms:
    """The ways in which callers may authenticate; None: not that way."""

    keys: ApiKeys | None = None
    jwt: "JwtAuthenticator | None" = None
    certificates: "ClientCertificates | None" = None


@final
class Authenticator:
    """Decides who a caller is. Every method takes any text that a caller may send."""

    def __init__(self, mechanisms: Mechanisms, tenants: TenantsFile) -> None:
        self._keys = mechanisms.keys
        self._jwt = mechanisms.jwt
        self._certificates = mechanisms.certificates
        self._tenants = tenants
        self.missing: Final = f"send {_listed(_accepted(mechanisms))}"
        """What to tell a caller without credentials."""

    @property
    def _certificates_listed(self) -> bool:
        return self._certificates is not None and bool(self._tenants.current().certificates)

    def authenticate(self, credential: str) -> Authentication:
        """Authenticate a caller by `credential`, which is empty if the caller sent none."""
        if not credential:
            if self._certificates_listed:
                return Authentication(pending=True)
            return Authentication.rejected(self.missing, Reason.MISSING_CREDENTIALS)
        found = self._permitted(self._by_credential(credential))
        if found.rejection is None and self._certificates_listed:
            return replace(found, pending=True)
        return found

    async def settle(self, credential: str, certificate: bytes | None) -> Authentication:
        """Authenticate a caller that was pending.

        Args:
            credential: as for `authenticate`.
            certificate: the client certificate of the connection, in PEM or DER; None without one.
        """
        found = None if not credential else self._by_credential(credential)
        if found is not None and found.pending and self._jwt is not None:
            found = await self._jwt.settle(credential)
        if found is not None and found.rejection is not None:
            return found
        held = None
        if self._certificates is not None and certificate is not None:
            held = self._certificates.authenticate(certificate)
        return self._permitted(self._agreed(found, held))

    def _agreed(self, found: Authentication | None, held: Authentication | None) -> Authentication:
        """Return the caller of a credential, a certificate, or both if they agree."""
        if held is None:
            message, reason = f"{UNLISTED_CERTIFICATE}; {self.missing}", Reason.MISSING_CREDENTIALS
            return found or Authentication.rejected(message, reason)
        if found is None or held.rejection is not None:
            return held
        if found.identity.tenant != held.identity.tenant:
            rejection = ServiceError(Reason.INVALID_CREDENTIALS, DISAGREEING)
            return Authentication(identity=_nameless(found.identity), rejection=rejection)
        subject = found.identity.subject or held.identity.subject
        return replace(found, identity=replace(found.identity, subject=subject))

    def _by_credential(self, credential: str) -> Authentication:
        if credential.startswith(KEY_PREFIX):
            return (
                Authentication.rejected(NO_KEYS)
                if self._keys is None
                else self._keys.authenticate(credential)
            )
        if self._jwt is not None and credential.count(".") == TOKEN_DOTS:
            return self._jwt.authenticate(credential)
        hint = "send your own Together key as `x-together-api-key`"
        return Authentication.rejected(
            f"`authorization` has no credential of this service: {self.missing}; {hint}"
        )

    def _permitted(self, found: Authentication) -> Authentication:
        """Reject a caller whose tenant is disabled."""
        identity = found.identity
        if found.rejection is None and identity.tenant and self._tenants.limits_of(identity.tenant).disabled:
            error = ServiceError(Reason.CALLER_NOT_PERMITTED, f"tenant {identity.tenant} is disabled")
            return Authentication(identity=identity, rejection=error)
        return found


def _nameless(identity: Identity) -> Identity:
    return Identity(tenant="", key_id=identity.key_id, subject=identity.subject)


def _accepted(mechanisms: Mechanisms) -> Iterable[str]:
    if mechanisms.keys is not None:
        yield "a key of this service as `authorization: Bearer tc_...`"
    if mechanisms.jwt is not None:
        yield "a JWT as `authorization: Bearer ...`"
    if mechanisms.certificates is not None:
        yield "a client certificate that a tenant lists"


def _listed(ways: Iterable[str]) -> str:
    return " or ".join(ways)
