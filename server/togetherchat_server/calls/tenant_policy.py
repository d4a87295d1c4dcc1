"""What a tenant may ask for: its models, and how much output a call may have.

Between the checks of a request and the choice of its model: names are held against the tenant's
list by the ids that they stand for, those of fallbacks and of the model that checks the answer too.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, cast, final

import orjson

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.call import Call, EventBatch
from togetherchat_server.domain.ports import Chat, ModelListing
from togetherchat_server.domain.reasons import Reason, ServiceError, Violation
from togetherchat_server.models.aliases import ModelAliases
from togetherchat_server.tenants.policy import TenantPolicy
from togetherchat_server.tenants.quota import TenantQuota

OTHER_BOUNDS: Final = ("max_completion_tokens", "max_new_tokens", "max_output_tokens")
"""Names under which engines take a bound on the output beside `max_tokens`."""


@final
class PolicyChat:
    """A `Chat` before a `Chat`: lets through what the call's tenant may have."""

    def __init__(self, chat: Chat, policy: TenantPolicy, quota: TenantQuota, names: ModelAliases) -> None:
        self._chat = chat
        self._policy = policy
        self._quota = quota
        self._names = names

    async def complete(self, request: service.CompleteRequest, call: Call) -> service.CompleteResponse:
        permitted = self._permitted(request, call)
        async with self._quota.in_replicas(call.tenant):
            return await self._chat.complete(permitted, call)

    @asynccontextmanager
    async def stream(
        self, request: service.CompleteRequest, call: Call
    ) -> AsyncGenerator[AsyncIterator[EventBatch]]:
        permitted = self._permitted(request, call)
        async with self._quota.in_replicas(call.tenant), self._chat.stream(permitted, call) as batches:
            yield batches

    def _permitted(self, request: service.CompleteRequest, call: Call) -> service.CompleteRequest:
        """The request, with the tenant's bound on its output. Raises ServiceError."""
        asked = [self._names.resolve(name) for name in (request.model, *request.fallback_models)]
        # It goes out as it came: an alias is no name of a model there.
        for model in (*asked, request.safety_model) if request.safety_model else asked:
            call.progress.model = model
            self._policy.check_model(call.tenant, model)
        if not self._policy.bounds_output(call.tenant):
            return request
        _refuse_other_bounds(request)
        tokens = request.max_tokens if request.HasField("max_tokens") else None
        choices = request.n if request.HasField("n") else 1
        bound = self._policy.output_tokens(call.tenant, tokens, choices)
        if bound is None or bound == tokens:
            return request
        bounded = service.CompleteRequest()
        bounded.CopyFrom(request)
        bounded.max_tokens = bound
        return bounded


@final
class QuotaModelListing:
    """A `ModelListing` before a `ModelListing`: a request like any other, for who counts them.

    A page is one: of a list that is longer than a page, which is rare, the HTTP front asks for several.
    """

    def __init__(self, listing: ModelListing, quota: TenantQuota) -> None:
        self._listing = listing
        self._quota = quota

    async def list_models(self, request: service.ListModelsRequest, call: Call) -> service.ListModelsResponse:
        async with self._quota.in_replicas(call.tenant):
            return await self._listing.list_models(request, call)


def _refuse_other_bounds(request: service.CompleteRequest) -> None:
    if not request.extra_body_json:
        return
    added = cast("dict[str, object]", orjson.loads(request.extra_body_json))
    named = [name for name in OTHER_BOUNDS if name in added]
    if named:
        violation = Violation(
            field="extra_body_json", description=f"must leave out {named[0]!r}: say max_tokens"
        )
        raise ServiceError(
            Reason.INVALID_REQUEST, f"extra_body_json {violation.description}", violations=(violation,)
        )
