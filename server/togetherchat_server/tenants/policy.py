"""The policy of a tenant: the models that it may use, and how much output one call may request.

The limits come from the tenants file. What a tenant consumes over several calls is in `quota.py`.
"""

from collections.abc import Collection, Mapping
from typing import final

from togetherchat_server.domain.call import Call
from togetherchat_server.domain.reasons import FieldViolation, Reason, ServiceError
from togetherchat_server.tenants.patterns import matches
from togetherchat_server.tenants.tenants_file import TenantsFile


@final
class TenantPolicy:
    """Decides whether a call is within its tenant's policy. `aliases` maps a name to a model id."""

    def __init__(self, tenants: TenantsFile, *, aliases: Mapping[str, str]) -> None:
        self._tenants = tenants
        self._aliases = aliases

    def permits(self, call: Call, model: str) -> bool:
        """Return whether a call's tenant and key may use the model with this id. Without a tenant: always."""
        if not call.tenant:
            return True
        limits = self._tenants.limits_of(call.tenant)
        return all(
            permits(patterns, model, self._aliases) for patterns in (limits.models, call.allowed_models)
        )

    def check_model(self, call: Call, model: str) -> None:
        """Raise ServiceError MODEL_NOT_ALLOWED unless the call's tenant and key may use the model."""
        if self.permits(call, model):
            return
        models = self._tenants.limits_of(call.tenant).models
        holder = f"tenant {call.tenant}"
        if permits(models, model, self._aliases):
            holder, models = f"key {call.key_id}", call.allowed_models
        raise ServiceError(
            Reason.MODEL_NOT_ALLOWED,
            f"{holder} may not use model {model}; its models are: {', '.join(models)}",
        )

    def output_tokens(self, tenant: str, requested: int | None, choices: int) -> int | None:
        """Return the `max_tokens` to send: the requested number, or the tenant's bound if there is none.

        Raises:
            ServiceError: INVALID_REQUEST if more was requested. The number is not lowered silently: the
                completion would end early, and the caller would not know why.
        """
        bound = self._tenants.limits_of(tenant).max_output_tokens
        if not bound or (requested is not None and requested * choices <= bound):
            return requested
        per_choice = bound // choices
        if requested is None and per_choice:
            return per_choice
        violation = FieldViolation(
            field="max_tokens" if per_choice else "n",
            description=f"must be at most {per_choice or bound}: a call of tenant {tenant} may have "
            f"{bound} output tokens over all its choices",
        )
        raise ServiceError(
            Reason.INVALID_REQUEST, f"{violation.field} {violation.description}", violations=(violation,)
        )

    def allowed_members(self, tenant: str) -> Collection[str] | None:
        """Return the unknown members of a request that may be sent to the provider; None: all of them.

        The provider may give one of them a meaning that evades a limit: another name of the model or of
        `max_tokens`, several completions for one, or names in another case.
        """
        limits = self._tenants.limits_of(tenant)
        return limits.allowed_members if limits.restricts_members else None

    def weight(self, tenant: str) -> float:
        """Return the tenant's share of the capacity, relative to others."""
        return self._tenants.limits_of(tenant).weight

    def bounds_output(self, tenant: str) -> bool:
        return self._tenants.limits_of(tenant).max_output_tokens > 0


def permits(patterns: tuple[str, ...], model: str, aliases: Mapping[str, str]) -> bool:
    """Return whether a list of ids, aliases and patterns allows a model id. An empty list allows all."""
    if not patterns:
        return True
    if model in patterns and model not in aliases:
        return True
    return any(matches(name, model) if "*" in name else aliases.get(name, name) == model for name in patterns)
