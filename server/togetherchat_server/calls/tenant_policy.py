"""Enforces a tenant's policy: its allowed models and its bound on the output of one call.

Runs after validation and before model routing. Aliases are resolved first: the ids of the model, of
its fallbacks and of the safety model must all be on the tenant's list.
"""

from typing import Final, cast, final

import orjson

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.call import Call
from togetherchat_server.domain.reasons import FieldViolation, Reason, ServiceError
from togetherchat_server.models.aliases import ModelAliases
from togetherchat_server.tenants.policy import TenantPolicy

OTHER_BOUNDS: Final = ("max_completion_tokens", "max_new_tokens", "max_output_tokens")
"""Other names than `max_tokens` under which engines accept a bound on the output."""


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
            self._policy.check_model(call.tenant, model)
        if not self._policy.bounds_output(call.tenant):
            return request
        _reject_other_bounds(request)
        tokens = request.max_tokens if request.HasField("max_tokens") else None
        choices = request.n if request.HasField("n") else 1
        bound = self._policy.output_tokens(call.tenant, tokens, choices)
        if bound is None or bound == tokens:
            return request
        bounded = service.CompleteRequest()
        bounded.CopyFrom(request)
        bounded.max_tokens = bound
        return bounded


def _reject_other_bounds(request: service.CompleteRequest) -> None:
    if not request.extra_body_json:
        return
    extra = cast("dict[str, object]", orjson.loads(request.extra_body_json))
    found = [name for name in OTHER_BOUNDS if name in extra]
    if found:
        violation = FieldViolation(
            field="extra_body_json", description=f"must not contain {found[0]!r}: use max_tokens"
        )
        raise ServiceError(
            Reason.INVALID_REQUEST, f"extra_body_json {violation.description}", violations=(violation,)
        )
