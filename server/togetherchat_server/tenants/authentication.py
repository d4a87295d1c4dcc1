"""The result of authenticating a caller."""

from dataclasses import dataclass
from typing import Self

from togetherchat_server.domain.identity import ANONYMOUS, Identity
from togetherchat_server.domain.reasons import Reason, ServiceError


@dataclass(frozen=True, slots=True, kw_only=True)
class Authentication:
    """Who a caller is, or why it is rejected, or that neither is known yet."""

    identity: Identity = ANONYMOUS
    """That of a rejected caller has only what its credential names, for the log."""
    rejection: ServiceError | None = None
    pending: bool = False
    """Whether `Authenticator.settle` must decide: it needs the peer's certificate, or waits for a key."""

    @classmethod
    def rejected(cls, message: str, reason: Reason = Reason.INVALID_CREDENTIALS) -> Self:
        """Reject a caller of whom nothing is known."""
        return cls(rejection=ServiceError(reason, message))
