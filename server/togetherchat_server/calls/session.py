"""Session: the life of one call, the same for every frontend.

A frontend reads a request, writes a response and knows its protocol's statuses. Everything between
belongs to the session, in this order:

    open          authenticate the caller; begin the call's trace, once
    admit         reject the call if every permit and the queue are in use
    check_peer    the same, for a call that cannot be decided without its peer
    (the frontend reads and translates the request; `check_elements` before it parses a large one)
    deadline      apply the caller's deadline or the call timeout, whichever is earlier
    complete, stream, list_models, get_model, query_usage, list_quotas, reset_quota
                  validate, apply the tenant's policy, wait in the queue, hold a permit, run the attempts
    (the frontend translates and writes the response)
    run           map the end of all this to success or to one error, and classify cancels
    close         write the call record, exactly once

A frontend calls `run` with its own steps. An error that `run` returns is the frontend's to send; if
`run` raises CancelledError, the caller is gone and nothing can be sent.

A CancelledError that is not a cancel of the task (some library raised it) is a defect: without a
check of `Task.cancelling()`, the caller would wait for ever.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from functools import partial
from typing import Final, final

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import usage_service_pb2 as usage_service
from togetherchat_server.calls.admission import WEIGHT, Permit
from togetherchat_server.calls.auth_throttle import COUNTED
from togetherchat_server.calls.credentials import Credentials, check_address
from togetherchat_server.calls.fair_queue import Priority
from togetherchat_server.calls.incoming import IncomingCall
from togetherchat_server.calls.session_parts import SessionParts
from togetherchat_server.calls.session_stream import QuotaStream, SessionStream
from togetherchat_server.calls.usage_reports import UsageReports
from togetherchat_server.calls.validation import validate
from togetherchat_server.calls.validation.elements import check_elements
from togetherchat_server.domain.addresses import network_of
from togetherchat_server.domain.audit import AuditEvent, emit
from togetherchat_server.domain.call import Call
from togetherchat_server.domain.deadline import DEADLINE_MESSAGES, Deadline, deadline_margin_s
from togetherchat_server.domain.identity import Scope
from togetherchat_server.domain.ports import BatchStream
from togetherchat_server.domain.reasons import Reason, ServiceError, without_frames
from togetherchat_server.telemetry.call_record import call_record

INTERNAL_ERROR_MESSAGE: Final = "internal error; the service's log has the details under this request id"
CANCELLED_MESSAGE: Final = "the caller cancelled the call or disconnected"
DRAINING_MESSAGE: Final = "the service stopped before the response was complete"
PRIORITY_MESSAGE: Final = "`x-priority` must be low, normal or high"
UNMETERED: Final = frozenset({Scope.USAGE, Scope.ADMIN})
"""The scopes of methods that are about usage and quotas. Their calls are no usage themselves."""
_NO_QUOTA: Final = nullcontext()

_log = logging.getLogger(__name__)

Work = Callable[[], Awaitable[None]]


@final
class Session:
    """One call. Its methods are called in the order that the head of this module lists."""

    __slots__ = (
        "_aborted",
        "_closed",
        "_completing",
        "_credentials",
        "_end_error",
        "_forwarded_for",
        "_in_flight",
        "_incoming",
        "_metered",
        "_parts",
        "_permit",
        "_priority",
        "_protocol",
        "_task",
        "_usage",
        "call",
        "messages_sent",
        "on_end",
    )

    def __init__(
        self,
        parts: SessionParts,
        in_flight: "set[Session]",
        incoming: IncomingCall,
        credentials: Credentials,
        call: Call,
    ) -> None:
        self.call: Final = call
        self.messages_sent = 0
        """Messages of the response that were written, or are being written."""
        self.on_end: Callable[[], None] | None = None
        """Called when the task of an admitted call has ended."""
        self._parts = parts
        self._in_flight = in_flight
        self._protocol = incoming.protocol
        self._priority = Priority.parse(incoming.priority)
        self._end_error: ServiceError | None = None
        self._forwarded_for = incoming.forwarded_for
        self._metered = incoming.scope not in UNMETERED
        # It holds the caller's credential: kept only if that must be looked at again.
        self._incoming = incoming if credentials.pending else None
        self._credentials = credentials
        self._permit: Permit | None = None
        self._task: asyncio.Task[object] | None = None
        self._completing = False
        self._usage: chat.Usage | None = None
        self._aborted = False
        self._closed = False

    @property
    def is_completing(self) -> bool:
        """Whether the last part is being written, or was written: a deadline is not a failure then."""
        return self._completing

    def set_peer(self, host: str) -> None:
        """Set the address of the peer, as soon as the frontend knows it."""
        self.call.client_address = self._parts.trusted_proxies.client_of(host, self._forwarded_for)

    @property
    def peer_check_needed(self) -> bool:
        """Whether the call is not accepted yet: `check_peer` must be called before its request is read."""
        return self._permit is None

    def admit(self) -> None:
        """Accept the call for the current task, by its metadata, and by its peer if that is known.

        From here on the call is recorded, and whatever it holds is released when the task ends.

        Raises:
            ServiceError: MISSING_CREDENTIALS, INVALID_CREDENTIALS, CALLER_NOT_PERMITTED, INVALID_REQUEST,
                OVERLOADED, CALLER_QUOTA, DRAINING.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  every frontend runs a call in a task
        self._task = task
        self._in_flight.add(self)
        task.add_done_callback(self._task_ended)
        if self._credentials.rejection is not None:
            raise self._credentials.rejection
        if self._priority is None:
            raise ServiceError(Reason.INVALID_REQUEST, PRIORITY_MESSAGE)
        if not self._incoming and (self.call.client_address or not self._address_matters):
            self._accept()

    async def check_peer(self, certificate: bytes | None = None) -> None:
        """Accept a call that `admit` did not, now that its peer is set.

        Args:
            certificate: the client certificate of the connection, in PEM or DER; None without one.

        Raises:
            ServiceError: as `admit`, and AUTHENTICATION_UNAVAILABLE.
        """
        await self._settle(certificate)
        self._accept()

    async def authenticate(self, certificate: bytes | None) -> ServiceError | None:
        """Return why the caller is rejected, for a request that is not recorded as a call; else None."""
        try:
            await self._settle(certificate)
            check_address(self._credentials.identity, self.call.client_address)
        except ServiceError as error:
            return error
        return None

    @property
    def _address_matters(self) -> bool:
        """Whether the call may be rejected for the address that it comes from."""
        if self._credentials.identity.networks:
            return True
        return not self.call.tenant and self._parts.auth_throttle.active

    async def _settle(self, certificate: bytes | None) -> None:
        """Decide credentials that are pending. Raises ServiceError if the caller is rejected."""
        if self._incoming is not None:
            self._set_credentials(await self._parts.credentials.settle(self._incoming, certificate))
            self._incoming = None
        if self._credentials.rejection is not None:
            raise self._credentials.rejection

    def _set_credentials(self, credentials: Credentials) -> None:
        self._credentials = credentials
        call, identity = self.call, credentials.identity
        call.tenant, call.key_id, call.subject = identity.tenant, identity.key_id, identity.subject
        call.allowed_models = identity.models
        call.upstream_key = credentials.upstream_key

    def _accept(self) -> None:
        check_address(self._credentials.identity, self.call.client_address)
        self._parts.auth_throttle.check(self._throttled_party(), self._credentials.caller)
        tenant, policy = self.call.tenant, self._parts.policy
        self._permit = self._parts.admission.accept(
            self._credentials.caller,
            party=self._party(),
            weight=WEIGHT if policy is None else policy.weight(tenant),
        )
        self._permit.on_shed = self.end

    def _party(self) -> str:
        """Return with whom the call shares capacity: its caller, or all callers at its address."""
        return self._credentials.caller or network_of(self.call.client_address)

    def _throttled_party(self) -> str:
        """Return whose bad credentials count together. A tenant's own do not concern its neighbours."""
        return f"tenant {self.call.tenant}" if self.call.tenant else self.call.client_address

    def deadline(self, seconds_left: float | None = None) -> Deadline:
        """Set the deadline, and return the context that enforces it.

        Args:
            seconds_left: until the caller's own timer fires; None if the caller set no deadline.
        """
        call, now_s = self.call, self._parts.clock()
        if seconds_left is not None:
            deadline_s = now_s + seconds_left - deadline_margin_s(seconds_left)
            if deadline_s <= call.deadline_s:
                call.deadline_s, call.deadline_reason = deadline_s, Reason.CALLER_DEADLINE
        reason = call.deadline_reason
        return Deadline(call.deadline_s - now_s, reason, DEADLINE_MESSAGES[reason])

    def seconds_left(self) -> float:
        return self.call.seconds_left(self._parts.clock())

    @property
    def allowed_members(self) -> Collection[str] | None:
        """The members of a request, unknown to this service, that may be sent to the provider; None: all."""
        policy = self._parts.policy
        return None if policy is None else policy.allowed_members(self.call.tenant)

    async def check_elements(self, counts: Iterable[int]) -> None:
        """Reject a large request with too many elements before it is parsed. Raises ServiceError."""
        await check_elements(counts, self._parts.request_limits)

    async def complete(self, request: service.CompleteRequest) -> service.CompleteResponse:
        """Return the whole completion. Raises ServiceError."""
        permitted = self._permitted(request)
        await self._acquire_permit()
        async with self._replica_quota():
            response = await self._parts.chat.complete(permitted, self.call)
        self._usage = response.usage
        return response

    def stream(self, request: service.CompleteRequest) -> SessionStream:
        """Return the completion as a context with its events in batches. Raises ServiceError in use."""
        return SessionStream(partial(self._open_stream, request))

    async def list_models(self, request: service.ListModelsRequest) -> service.ListModelsResponse:
        """Return one page of the models. Raises ServiceError."""
        await self._acquire_permit()
        async with self._replica_quota():
            return await self._parts.models.list_models(request, self.call)

    async def get_model(self, request: service.GetModelRequest) -> service.GetModelResponse:
        """Return one model. Raises ServiceError."""
        await self._acquire_permit()
        async with self._replica_quota():
            return await self._parts.models.get_model(request, self.call)

    async def query_usage(self, request: usage_service.QueryUsageRequest) -> usage_service.QueryUsageResponse:
        """Return one page of a report of usage. Raises ServiceError."""
        await self._acquire_permit()
        return await self._usage_reports().query(request, self._credentials.identity, self.call.received_us)

    async def list_quotas(self, request: usage_service.ListQuotasRequest) -> usage_service.ListQuotasResponse:
        """Return the quotas that the caller may see. Raises ServiceError."""
        await self._acquire_permit()
        return await self._usage_reports().list_quotas(request, self._credentials.identity)

    async def reset_quota(self, request: usage_service.ResetQuotaRequest) -> usage_service.ResetQuotaResponse:
        """Reset the quotas of a tenant. Raises ServiceError."""
        await self._acquire_permit()
        response = await self._usage_reports().reset(request)
        call = self.call
        emit(
            AuditEvent.QUOTA_RESET,
            key_id=call.key_id,
            subject=call.subject,
            tenant=call.tenant,
            quota_tenant=request.tenant,
            client_address=call.client_address,
            protocol=self._protocol.name,
            method=call.method,
            request_id=call.id,
        )
        return response

    def sending(self, event: service.StreamCompleteResponse) -> None:
        """Record an event of a stream that is about to be written. The last one has the usage."""
        self.messages_sent += 1
        if event.HasField("completed"):
            self._usage = event.completed.usage
            self._completing = True

    def sending_response(self) -> None:
        """Record that a whole response is about to be written."""
        self.messages_sent = 1
        self._completing = True

    async def run(self, work: Work) -> ServiceError | None:
        """Run the frontend's steps of the call, and end the call in exactly one way.

        Returns the error to send; None if the call succeeded. Raises CancelledError if the caller is gone.
        """
        try:
            await work()
        except ServiceError as error:
            if not (self._completing and error.reason in DEADLINE_MESSAGES):
                return self.fail(error)
        except asyncio.CancelledError:
            error = self._error_of_cancel()
            if error is None:
                raise
            return self.fail(error)
        except Exception:  # noqa: BLE001  the one broad except of a call: its text must not reach the caller
            _log.exception("call %s failed with an unexpected exception", self.call.id)
            return self.fail(ServiceError(Reason.INTERNAL_ERROR, INTERNAL_ERROR_MESSAGE))
        if self.call.progress.attempts:
            self._parts.auth_throttle.record_success(self._credentials.caller)
        self.close(None)
        return None

    def fail(self, error: ServiceError) -> ServiceError:
        """Close the call with an error, and return the error to send."""
        if error.reason in COUNTED:
            caller = self._credentials.caller
            error = self._parts.auth_throttle.record_failure(self._throttled_party(), caller, error)
        self.close(error)
        return without_frames(error)

    def close(self, error: ServiceError | None) -> None:
        """Write the call record, unless it is written. `error` is None for a success."""
        if self._closed:
            return
        self._closed = True
        parts, protocol = self._parts, self._protocol
        record = call_record(
            self.call,
            protocol=protocol.name,
            code="OK" if error is None else protocol.status_name(error),
            reason=None if error is None else error.reason,
            messages_sent=self.messages_sent,
            usage=self._usage,
            now_s=parts.clock(),
            detail="" if error is None else error.message,
            metered=self._metered,
        )
        for sink in parts.sinks:
            sink(record)
        if parts.spans is not None and self.call.trace is not None:
            parts.spans.end(self.call, record)

    def release_permit(self) -> None:
        """Release the permit before the task ends, for a peer that stopped reading."""
        if self._permit is not None:
            self._parts.admission.release(self._permit)

    def end(self, error: ServiceError) -> None:
        """Cancel the call while its request is being read: `run` returns the error."""
        self._end_error = error
        if self._task is not None:
            self.close(error)
            self._task.cancel()

    def abort(self) -> None:
        """Cancel the call, because the service stops."""
        self._aborted = True
        if self._task is not None:
            self._task.cancel()

    def _permitted(self, request: service.CompleteRequest) -> service.CompleteRequest:
        """Return the request with the bounds of the tenant's policy. Raises ServiceError."""
        parts = self._parts
        validate(request, parts.request_limits)
        self.call.user = request.user
        return request if parts.policy is None else parts.policy.apply(request, self.call)

    async def _acquire_permit(self) -> None:
        assert self._permit is not None  # noqa: S101  `admit` was called
        self.call.progress.queued_s += await self._parts.admission.acquire(
            self._permit,
            party=self._party(),
            priority=Priority.NORMAL if self._priority is None else self._priority,
            deadline_s=self.call.deadline_s,
        )

    async def _open_stream(self, request: service.CompleteRequest) -> BatchStream:
        permitted = self._permitted(request)
        await self._acquire_permit()
        if self._parts.quota is None:
            return await self._parts.chat.stream(permitted, self.call)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._replica_quota())
            batches = await self._parts.chat.stream(permitted, self.call)
            return QuotaStream(batches, stack.pop_all())

    def _usage_reports(self) -> UsageReports:
        return UsageReports(usage=self._parts.usage, quotas=self._parts.quotas)

    def _replica_quota(self) -> AbstractAsyncContextManager[None]:
        """Return the context in which the call counts in the quota store that replicas share."""
        quota = self._parts.quota
        return _NO_QUOTA if quota is None else quota.in_replicas(self.call.tenant)

    def _error_of_cancel(self) -> ServiceError | None:
        """Classify a cancel. Return None, and close the call, if the caller cancelled it."""
        task = asyncio.current_task()
        if task is None or not task.cancelling():
            _log.error("call %s: a CancelledError was raised, but its task was not cancelled", self.call.id)
            return ServiceError(Reason.INTERNAL_ERROR, INTERNAL_ERROR_MESSAGE)
        if self._end_error is not None:
            task.uncancel()
            return self._end_error
        if self._aborted:
            task.uncancel()
            return ServiceError(Reason.DRAINING, DRAINING_MESSAGE)
        # gRPC cancels the task itself when the caller's deadline passes.
        reason = self.call.deadline_reason if self.seconds_left() <= 0 else Reason.CALLER_CANCELLED
        self.close(ServiceError(reason, CANCELLED_MESSAGE))
        return None

    def _task_ended(self, _task: "asyncio.Task[object]") -> None:
        """Release what the call holds, however its task ended: even if its work never began."""
        if not self._closed:
            self.close(ServiceError(Reason.CALLER_CANCELLED, CANCELLED_MESSAGE))
        if self.on_end is not None:
            self.on_end()
            self.on_end = None
        self.release_permit()
        self._in_flight.discard(self)
