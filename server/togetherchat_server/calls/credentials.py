"""Decides who the caller is, and which key is sent to the provider for its call.

Every call is authenticated here exactly once. The result travels with the session.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

from togetherchat_server.calls.incoming import IncomingCall
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.tenants.authenticator import ANONYMOUS, MISSING, Authenticator, Identity

UpstreamKeyMode = Literal["server", "caller", "caller-then-server"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a caller's credentials are worth."""

    identity: Identity = ANONYMOUS
    """Whose key it is. Of a rejected caller only the key's id, so that the log has it."""
    upstream_key: Secret | None = None
    """The key to send to the provider; None if the provider needs none."""
    caller_brought_key: bool = False
    rejection: ServiceError | None = None
    """MISSING_CREDENTIALS or INVALID_CREDENTIALS if the call must be rejected."""

    @property
    def caller(self) -> str:
        """Identifies the caller to admission control: its tenant, or the fingerprint of the provider
        key that it brought; empty if there is neither.
        """
        if self.identity.tenant:
            return self.identity.tenant
        key = self.upstream_key
        return key.fingerprint() if key is not None and self.caller_brought_key else ""


@final
class CredentialCheck:
    """Checks the credentials of calls."""

    def __init__(
        self,
        *,
        key_mode: UpstreamKeyMode,
        server_key: Callable[[], Secret | None],
        authenticator: Authenticator | None = None,
    ) -> None:
        """With an `authenticator`, every call must carry a key of this service."""
        self._key_mode = key_mode
        self._server_key = server_key
        self._authenticator = authenticator

    def check(self, incoming: IncomingCall) -> Credentials:
        """Return the caller's credentials. Never raises: a rejection is part of the result."""
        identity = ANONYMOUS
        try:
            identity, rejection = self._authenticate(incoming.authorization)
            if rejection is not None:
                return Credentials(identity=identity, rejection=rejection)
            key, caller_brought_key = self._upstream_key(incoming)
        except ServiceError as error:
            return Credentials(identity=identity, rejection=error)
        return Credentials(identity=identity, upstream_key=key, caller_brought_key=caller_brought_key)

    def _authenticate(self, authorization: str) -> tuple[Identity, ServiceError | None]:
        """Return the caller's identity, ANONYMOUS without keys of this service, and its rejection."""
        if self._authenticator is None:
            return ANONYMOUS, None
        if not authorization:
            raise ServiceError(Reason.MISSING_CREDENTIALS, MISSING)
        return self._authenticator.authenticate(_bearer_key(authorization))

    def _upstream_key(self, incoming: IncomingCall) -> tuple[Secret | None, bool]:
        """Return the key to send to the provider, and whether the caller brought it."""
        offered = incoming.authorization if self._authenticator is None else incoming.together_key
        if self._key_mode == "server" or (self._key_mode == "caller-then-server" and not offered):
            return self._server_key(), False
        if not offered:
            header = (
                "`authorization: Bearer <key>`"
                if self._authenticator is None
                else "`x-together-api-key: <key>`"
            )
            raise ServiceError(Reason.MISSING_CREDENTIALS, f"send your Together key as {header} metadata")
        if self._authenticator is None:
            return _secret(_bearer_key(offered), "authorization"), True
        return _secret(offered, "x-together-api-key"), True


def _bearer_key(authorization: str) -> str:
    scheme, _, key = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise ServiceError(Reason.INVALID_CREDENTIALS, "`authorization` must be `Bearer <key>`")
    return key.strip()


def _secret(key: str, header: str) -> Secret:
    try:
        return Secret(key)
    except ValueError as exc:
        raise ServiceError(Reason.INVALID_CREDENTIALS, f"`{header}`: {exc}") from None
