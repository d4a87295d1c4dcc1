"""Who a caller is, once it has authenticated, and what its credential permits."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from togetherchat_server.domain.addresses import Network


class Scope(enum.StrEnum):
    """What a credential may be used for. Each method of a frontend needs one scope."""

    CHAT = "chat"
    """Complete and StreamComplete."""
    MODELS = "models"
    """ListModels and GetModel."""
    USAGE = "usage"
    """QueryUsage and ListQuotas, of the caller's own tenant."""
    ADMIN = "admin"
    """What concerns all tenants; includes `usage`. Only a credential that names this scope has it."""


SCOPES: Final[Mapping[str, Scope]] = {scope.value: scope for scope in Scope}
KEY_SCOPES: Final = frozenset({Scope.CHAT, Scope.MODELS, Scope.USAGE})
"""The scopes of an API key that names none."""
SUBJECT_SCOPES: Final = frozenset({Scope.CHAT, Scope.MODELS})
"""The scopes of a JWT without a scope claim, and of a client certificate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The tenant of a caller, and what its credential permits."""

    tenant: str
    key_id: str = ""
    """The id of the caller's API key, which is not secret."""
    subject: str = ""
    """The subject of the caller's JWT or client certificate."""
    scopes: frozenset[Scope] = KEY_SCOPES
    models: tuple[str, ...] = ()
    """Models to which the key is limited, beside the limits of its tenant. Empty: no limit."""
    networks: tuple[Network, ...] = ()
    """Networks from which the key may be used. Empty: any."""

    def permits(self, scope: Scope) -> bool:
        """Return whether the caller may use a method that needs this scope."""
        return scope in self.scopes or (scope is Scope.USAGE and Scope.ADMIN in self.scopes)


ANONYMOUS: Final = Identity(tenant="", scopes=frozenset(Scope))
"""The identity of every caller if the service authenticates no callers."""
