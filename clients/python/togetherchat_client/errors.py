"""Exceptions of failed calls.

Owns the exceptions and the two tables that select one: by the service's reason, which is finer, and
by the status code. The message is never used for the selection. `details.py` reads the error details.

    TogetherChatError
      InvalidRequestError        INVALID_ARGUMENT, OUT_OF_RANGE
        ContextLengthError         CONTEXT_LENGTH_EXCEEDED
        RequestTooLargeError       REQUEST_TOO_LARGE
      AuthenticationError        UNAUTHENTICATED
      PermissionDeniedError      PERMISSION_DENIED
      NotFoundError              NOT_FOUND
        ModelNotFoundError         MODEL_NOT_FOUND
      ResourceExhaustedError     RESOURCE_EXHAUSTED
        RateLimitedError           RATE_LIMITED, RATE_LIMITED_REQUESTS,
                                   RATE_LIMITED_TOKENS, CALLER_QUOTA
        QuotaExhaustedError        QUOTA_EXHAUSTED
      FailedPreconditionError    FAILED_PRECONDITION
        SpendLimitError            SPEND_LIMIT_REACHED
      ConflictError              ABORTED, ALREADY_EXISTS
      UnavailableError           UNAVAILABLE
      DeadlineExceededError      DEADLINE_EXCEEDED
      CallCancelledError         CANCELLED
      UnimplementedError         UNIMPLEMENTED
      InternalError              INTERNAL, UNKNOWN, DATA_LOSS
        IncompleteStreamError      status OK without the `completed` event
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import grpc

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_client.call_info import CallInfo, Trailers
from togetherchat_client.client_reasons import client_reason
from togetherchat_client.details import ErrorDetails, Violation, parse_details
from togetherchat_client.reasons import ErrorReason

STREAM_INCOMPLETE: Final = "STREAM_INCOMPLETE"
"""The reason of a stream that ended with OK but without `completed`. This library sets it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """All facts about a failed call."""

    code: grpc.StatusCode
    message: str
    details: ErrorDetails
    info: CallInfo
    partial: service.CompleteResponse | None = None
    hint: str = ""


class TogetherChatError(Exception):
    """Base class: a call failed. The single argument keeps the exception picklable."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure

    @property
    def code(self) -> grpc.StatusCode:
        return self.failure.code

    @property
    def reason(self) -> str:
        """An `ErrorReason`, a reason of a later version, or one of `client_reasons`. Empty if unknown."""
        return self.failure.details.reason

    @property
    def message(self) -> str:
        """One sentence for people. Do not branch on the message."""
        return self.failure.message

    @property
    def request_id(self) -> str:
        return self.failure.details.request_id or self.failure.info.request_id

    @property
    def retryable(self) -> bool | None:
        """Whether the same call may succeed later. None if unknown.

        True for a lost connection, too: the service may have completed and billed such a call.
        """
        return self.failure.details.retryable

    @property
    def retry_after_s(self) -> float | None:
        """Seconds to wait before a retry. None when neither service nor provider requested a wait."""
        return self.failure.details.retry_after_s

    @property
    def metadata(self) -> Mapping[str, str]:
        """Metadata of the ErrorInfo, such as `upstreamHttpStatus`, `upstreamErrorCode`, `partialOutput`."""
        return self.failure.details.metadata

    @property
    def violations(self) -> tuple[Violation, ...]:
        """All violations of the request, or the limits that were reached."""
        return self.failure.details.violations

    @property
    def resource_name(self) -> str:
        """Name of the resource that the failure is about: the model of a ModelNotFoundError. Else empty."""
        return self.failure.details.resource_name

    @property
    def help_urls(self) -> tuple[str, ...]:
        return self.failure.details.help_urls

    @property
    def hint(self) -> str:
        """One sentence that says what to check, where the service was not reached. Else empty."""
        return self.failure.hint

    @property
    def info(self) -> CallInfo:
        """The call's ids, rate limits and trailers."""
        return self.failure.info

    @property
    def partial(self) -> service.CompleteResponse | None:
        """The partial response of a stream before it failed. None when no event had arrived."""
        return self.failure.partial

    def __str__(self) -> str:
        reason = self.reason or self.code.name
        hint = f"; {self.hint}" if self.hint else ""
        return f"{reason}: {self.message} (request {self.request_id}{hint})"


class InvalidRequestError(TogetherChatError):
    """The request is invalid: see `violations`. A retry fails again."""


class ContextLengthError(InvalidRequestError):
    """Prompt and completion do not fit into the model's context length."""


class RequestTooLargeError(InvalidRequestError):
    """The request has more bytes than the service or the provider accepts."""


class AuthenticationError(TogetherChatError):
    """The key is missing, invalid or rejected."""


class PermissionDeniedError(TogetherChatError):
    """The key is valid but does not permit this call."""


class NotFoundError(TogetherChatError):
    """The requested resource does not exist."""


class ModelNotFoundError(NotFoundError):
    """The provider does not serve this model, or not for this key; or the service does not list it."""


class ResourceExhaustedError(TogetherChatError):
    """A limit was reached. Without a reason, it may be this client's limit on the response size."""


class RateLimitedError(ResourceExhaustedError):
    """Too many requests or tokens. Retry after `retry_after_s`."""


class QuotaExhaustedError(ResourceExhaustedError):
    """The account's quota or credit is used up. Waiting does not help."""


class FailedPreconditionError(TogetherChatError):
    """A precondition must be fixed before the call can succeed."""


class SpendLimitError(FailedPreconditionError):
    """The account's spend limit is reached."""


class ConflictError(TogetherChatError):
    """The provider reported a conflict with another request."""


class UnavailableError(TogetherChatError):
    """The service or the provider is unavailable. A later retry may succeed."""


class DeadlineExceededError(TogetherChatError):
    """The call's deadline or a timeout of the service was exceeded."""


class CallCancelledError(TogetherChatError):
    """The call was cancelled. A cancelled asyncio task raises asyncio.CancelledError instead."""


class UnimplementedError(TogetherChatError):
    """The service or the provider does not support this call."""


class InternalError(TogetherChatError):
    """An internal failure of the service or the provider."""


class IncompleteStreamError(InternalError):
    """The stream ended without `completed`. The response in `partial` is cut off."""


CLASS_BY_CODE: Mapping[grpc.StatusCode, type[TogetherChatError]] = {
    grpc.StatusCode.CANCELLED: CallCancelledError,
    grpc.StatusCode.UNKNOWN: InternalError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: ConflictError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.UNAUTHENTICATED: AuthenticationError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhaustedError,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
    grpc.StatusCode.ABORTED: ConflictError,
    grpc.StatusCode.UNIMPLEMENTED: UnimplementedError,
    grpc.StatusCode.INTERNAL: InternalError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DATA_LOSS: InternalError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
    # An error only when a stream ends with OK but without `completed`.
    grpc.StatusCode.OK: IncompleteStreamError,
}

CLASS_BY_REASON: Mapping[str, type[TogetherChatError]] = {
    ErrorReason.CONTEXT_LENGTH_EXCEEDED: ContextLengthError,
    ErrorReason.REQUEST_TOO_LARGE: RequestTooLargeError,
    ErrorReason.MODEL_NOT_FOUND: ModelNotFoundError,
    ErrorReason.RATE_LIMITED: RateLimitedError,
    ErrorReason.RATE_LIMITED_REQUESTS: RateLimitedError,
    ErrorReason.RATE_LIMITED_TOKENS: RateLimitedError,
    ErrorReason.CALLER_QUOTA: RateLimitedError,
    ErrorReason.QUOTA_EXHAUSTED: QuotaExhaustedError,
    ErrorReason.SPEND_LIMIT_REACHED: SpendLimitError,
}


def error_class(code: grpc.StatusCode, reason: str) -> type[TogetherChatError]:
    """The class of the reason, if it is a subclass of the class of the code. Else the class of the code."""
    by_code = CLASS_BY_CODE[code]
    by_reason = CLASS_BY_REASON.get(reason, by_code)
    return by_reason if issubclass(by_reason, by_code) else by_code


def error_from_status(
    code: grpc.StatusCode,
    message: str,
    trailers: Trailers,
    *,
    request_id: str,
    partial: service.CompleteResponse | None = None,
) -> TogetherChatError:
    """Return the exception for a call that ended with `code`. `request_id` is the id that was sent."""
    pairs = tuple(trailers)
    details = parse_details(pairs)
    hint = ""
    if code is grpc.StatusCode.OK:
        details = replace(details, reason=STREAM_INCOMPLETE)
    elif not details.reason and (known := client_reason(code, message)) is not None:
        reported = details.retryable
        retryable = known.retryable if reported is None else reported
        details = replace(details, reason=known.reason, retryable=retryable)
        hint = known.hint
    failure = Failure(
        code=code,
        message=message,
        details=details,
        info=CallInfo.from_trailers(pairs, request_id=request_id),
        partial=partial,
        hint=hint,
    )
    return error_class(code, failure.details.reason)(failure)
