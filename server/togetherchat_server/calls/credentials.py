"""Decides who the caller is, whether it may call the method, and which key is sent to the provider.

The result travels with the session. Only a call whose credentials are pending is decided in a second step,
when its peer is known.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

from togetherchat_server.calls.incoming import IncomingCall
from togetherchat_server.domain.addresses import in_networks
from togetherchat_server.domain.identity import ANONYMOUS, Identity
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.tenants.authentication import Authentication
from togetherchat_server.tenants.authenticator import Authenticator

UpstreamKeyMode = Literal["server", "caller", "caller-then-server"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a caller's credentials are worth."""

    identity: Identity = ANONYMOUS
    """The identity of the caller. That of a rejected one has only what its credential names, for the log."""
    upstream_key: Secret | None = None
    """The key to send to the provider; None if the provider needs none."""
    caller_brought_key: bool = False
    rejection: ServiceError | None = None
    """Why the call must be rejected: MISSING_CREDENTIALS, INVALID_CREDENTIALS, CALLER_NOT_PERMITTED or
    AUTHENTICATION_UNAVAILABLE.
    """
    pending: bool = False
    """Whether `CredentialCheck.settle` must decide."""

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
        """With an `authenticator`, every call must carry a credential of this service."""
        self._key_mode = key_mode
        self._server_key = server_key
        self._authenticator = authenticator

    def check(self, incoming: IncomingCall) -> Credentials:
        """Return the caller's credentials. Never raises: a rejection is part of the result."""
        authenticator = self._authenticator
        if authenticator is None:
            return self._credentials(incoming, Authentication())
        try:
            credential = _bearer_of(incoming)
        except ServiceError as error:
            return Credentials(rejection=error)
        return self._credentials(incoming, authenticator.authenticate(credential))

    async def settle(self, incoming: IncomingCall, certificate: bytes | None) -> Credentials:
        """Return the credentials of a caller that was pending.

        Args:
            incoming: what `check` received.
            certificate: the client certificate of the connection, in PEM or DER; None without one.
        """
        authenticator = self._authenticator
        assert authenticator is not None  # noqa: S101  without one, nothing is pending
        found = await authenticator.settle(_bearer_of(incoming), certificate)
        return self._credentials(incoming, found)

    def _credentials(self, incoming: IncomingCall, found: Authentication) -> Credentials:
        identity = found.identity
        try:
            if found.rejection is not None:
                raise found.rejection
            # The scopes of a caller that is only pending are not known.
            if not found.pending and not identity.permits(incoming.scope):
                raise _lacks_scope(incoming)
            key, caller_brought_key = self._upstream_key(incoming)
        except ServiceError as error:
            return Credentials(identity=identity, rejection=error)
        return Credentials(
            identity=identity,
            upstream_key=key,
            caller_brought_key=caller_brought_key,
            pending=found.pending,
        )

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


def check_address(identity: Identity, address: str) -> None:
    """Raise ServiceError CALLER_NOT_PERMITTED if a key must not be used from this address."""
    if identity.networks and not in_networks(address, identity.networks):
        raise ServiceError(
            Reason.CALLER_NOT_PERMITTED, f"key {identity.key_id} must not be used from address {address}"
        )


def _lacks_scope(incoming: IncomingCall) -> ServiceError:
    return ServiceError(Reason.CALLER_NOT_PERMITTED, f"the credential needs the scope `{incoming.scope}`")


def _bearer_of(incoming: IncomingCall) -> str:
    """Return the credential in `authorization`; empty if there is none. Raises ServiceError."""
    return _bearer_key(incoming.authorization) if incoming.authorization else ""


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
