"""What a call raises.

Owns the exceptions and the two tables that choose one: by reason (the service's own word,
the finer one) and by status code. ErrorDetails are read in `details.py`; the text of a message
decides nothing.

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
        IncompleteStreamError      an OK status without the end of the answer
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import grpc

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_client.call_info import CallInfo, Trailers
from togetherchat_client.details import ErrorDetails, Violation, parse_details

STREAM_INCOMPLETE: Final = "STREAM_INCOMPLETE"
"""The one reason that is this library's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Everything known of a failed call."""

    code: grpc.StatusCode
    message: str
    details: ErrorDetails
    info: CallInfo
    partial: service.CompleteResponse | None = None


class TogetherChatError(Exception):
    """A call failed. One argument carries it all, so that the exception can be pickled."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure

    @property
    def code(self) -> grpc.StatusCode:
        return self.failure.code

    @property
    def reason(self) -> str:
        """The service's word for it, such as `RATE_LIMITED`. Empty when it did not get to say one."""
        return self.failure.details.reason

    @property
    def message(self) -> str:
        """One sentence for people. Never decide by it."""
        return self.failure.message

    @property
    def request_id(self) -> str:
        return self.failure.details.request_id or self.failure.info.request_id

    @property
    def retryable(self) -> bool | None:
        """Whether the same call may succeed later; None when the service did not get to say so."""
        return self.failure.details.retryable

    @property
    def retry_after_s(self) -> float | None:
        """Seconds to wait before a retry, where the service or the provider asked for a wait."""
        return self.failure.details.retry_after_s

    @property
    def metadata(self) -> Mapping[str, str]:
        """Facts such as `upstreamHttpStatus`, `upstreamErrorCode`, `model`, `phase`, `partialOutput`."""
        return self.failure.details.metadata

    @property
    def violations(self) -> tuple[Violation, ...]:
        """Everything that is wrong with the request, or the limits that were met."""
        return self.failure.details.violations

    @property
    def help_urls(self) -> tuple[str, ...]:
        return self.failure.details.help_urls

    @property
    def info(self) -> CallInfo:
        """The call's ids, rate limits and trailers."""
        return self.failure.info

    @property
    def partial(self) -> service.CompleteResponse | None:
        """What a stream had gathered before it failed; None when it had nothing."""
        return self.failure.partial

    def __str__(self) -> str:
        word = self.reason or self.code.name
        return f"{word}: {self.message} (request {self.request_id})"


class InvalidRequestError(TogetherChatError):
    """The request itself is wrong: `violations` says where. The same again fails the same."""


class ContextLengthError(InvalidRequestError):
    """Prompt and answer do not fit the model's context."""


class RequestTooLargeError(InvalidRequestError):
    """The request has more bytes than the service or the provider takes."""


class AuthenticationError(TogetherChatError):
    """The key is missing, wrong or was refused."""


class PermissionDeniedError(TogetherChatError):
    """The key is good, but not for this."""


class NotFoundError(TogetherChatError):
    """There is no such thing."""


class ModelNotFoundError(NotFoundError):
    """The provider does not serve this model, or not to this key."""


class ResourceExhaustedError(TogetherChatError):
    """A limit was met. Without a reason it may be this client's own bound on the size of an answer."""


class RateLimitedError(ResourceExhaustedError):
    """Too many requests or tokens for now; `retry_after_s` says how long."""


class QuotaExhaustedError(ResourceExhaustedError):
    """The account's quota or money is used up: waiting does not help."""


class FailedPreconditionError(TogetherChatError):
    """Something must be put right before the call can succeed."""


class SpendLimitError(FailedPreconditionError):
    """The account's spend limit is reached."""


class ConflictError(TogetherChatError):
    """The provider saw a conflict with another request."""


class UnavailableError(TogetherChatError):
    """The service or the provider is not to be had now; trying later may help."""


class DeadlineExceededError(TogetherChatError):
    """The time was up: the call's own, or a limit of the service."""


class CallCancelledError(TogetherChatError):
    """The call was cancelled. A task that asyncio cancels raises asyncio's own CancelledError instead."""


class UnimplementedError(TogetherChatError):
    """The service, or the provider, does not offer this."""


class InternalError(TogetherChatError):
    """A fault of the service or of the provider."""


class IncompleteStreamError(InternalError):
    """The stream ended without saying that the answer is whole: what `partial` holds is cut off."""


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
    # Not a failure, until a stream ends with it and without its last event.
    grpc.StatusCode.OK: IncompleteStreamError,
}

CLASS_BY_REASON: Mapping[str, type[TogetherChatError]] = {
    "CONTEXT_LENGTH_EXCEEDED": ContextLengthError,
    "REQUEST_TOO_LARGE": RequestTooLargeError,
    "MODEL_NOT_FOUND": ModelNotFoundError,
    "RATE_LIMITED": RateLimitedError,
    "RATE_LIMITED_REQUESTS": RateLimitedError,
    "RATE_LIMITED_TOKENS": RateLimitedError,
    "CALLER_QUOTA": RateLimitedError,
    "QUOTA_EXHAUSTED": QuotaExhaustedError,
    "SPEND_LIMIT_REACHED": SpendLimitError,
}


def error_class(code: grpc.StatusCode, reason: str) -> type[TogetherChatError]:
    """The reason's class where it refines the code's; else the code's."""
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
    """The exception for a call that ended with `code`; `request_id` is the one that was sent."""
    pairs = tuple(trailers)
    details = parse_details(pairs)
    failure = Failure(
        code=code,
        message=message,
        details=replace(details, reason=STREAM_INCOMPLETE) if code is grpc.StatusCode.OK else details,
        info=CallInfo.from_trailers(pairs, request_id=request_id),
        partial=partial,
    )
    return error_class(code, failure.details.reason)(failure)
