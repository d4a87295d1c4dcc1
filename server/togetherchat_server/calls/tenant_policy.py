"""Enforces a tenant's policy: its models, its bound on the output of one call, and its unknown members.

Runs after validation and before model routing. Aliases are resolved first: the ids of the model, of
its fallbacks and of the safety model must all be on the tenant's list.
"""

from collections.abc import Collection
from typing import Final, cast, final

import orjson

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.call import Call
from togetherchat_server.domain.reasons import FieldViolation, Reason, ServiceError, sanitise
from togetherchat_server.models.aliases import ModelAliases
from togetherchat_server.tenants.policy import TenantPolicy

NAME_CHARACTERS_MAX: Final = 64
SEED: Final = "seed"
"""A negative seed has no field, so a frontend sends it as a member of `extra_body_json`."""


@final
class RequestPolicy:
    """Applies the policy of a call's tenant to a request."""

    def __init__(self, policy: TenantPolicy, names: ModelAliases) -> None:
        self._policy = policy
        self._names = names

    def apply(self, request: service.CompleteRequest, call: Call) -> service.CompleteRequest:
        """Return the request with the tenant's bound on its output; the request itself if it needs none.

        Raises:
            ServiceError: MODEL_NOT_ALLOWED, or INVALID_REQUEST if the request exceeds the bound.
        """
        models = [self._names.resolve(name) for name in (request.model, *request.fallback_models)]
        # The safety model is sent as the caller named it: aliases do not apply to it.
        for model in (*models, request.safety_model) if request.safety_model else models:
            call.progress.model = model
            self._policy.check_model(call, model)
        if request.extra_body_json:
            self._check_members(request.extra_body_json, call.tenant)
        if not self._policy.bounds_output(call.tenant):
            return request
        tokens = request.max_tokens if request.HasField("max_tokens") else None
        choices = request.n if request.HasField("n") else 1
        bound = self._policy.output_tokens(call.tenant, tokens, choices)
        if bound is None or bound == tokens:
            return request
        bounded = service.CompleteRequest()
        bounded.CopyFrom(request)
        bounded.max_tokens = bound
        return bounded

    def weight(self, tenant: str) -> float:
        """Return the tenant's share of the capacity, relative to others."""
        return self._policy.weight(tenant)

    def allowed_members(self, tenant: str) -> Collection[str] | None:
        """Return the unknown members of a request that may be sent to the provider; None: all of them."""
        return self._policy.allowed_members(tenant)

    def _check_members(self, extra_body_json: str, tenant: str) -> None:
        allowed = self._policy.allowed_members(tenant)
        if allowed is None:
            return
        extra = cast("dict[str, object]", orjson.loads(extra_body_json))
        unknown = [name for name in extra if name != SEED and name not in allowed]
        if unknown:
            violation = FieldViolation(
                field="extra_body_json",
                description=f"must only have members of tenant {tenant}'s `allowed_members`; "
                f"not allowed: {sanitise(unknown[0], characters_max=NAME_CHARACTERS_MAX)}",
            )
            raise ServiceError(
                Reason.INVALID_REQUEST,
                f"{violation.field} {violation.description}",
                violations=(violation,),
            )
