"""The togetherchat client library.

    from togetherchat_client import connect, text_of

    with connect("localhost:50051") as client:
        print(text_of(client.complete("openai/gpt-oss-120b", "Hello!")))

`connect` returns a `Client`, and `connect_async` an `AsyncClient` with the same methods. Messages
are the generated classes of `togetherchat.v1`. `errors.py` has the tree of exceptions.

Each name is imported when it is first used. So the command can configure gRPC's log before gRPC reads
its environment, and importing the package stays cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from togetherchat.accumulator import Accumulator
    from togetherchat_client._async.client import AsyncClient, connect_async
    from togetherchat_client._async.completion_stream import AsyncCompletionStream
    from togetherchat_client._sync.client import Client, connect
    from togetherchat_client._sync.completion_stream import CompletionStream
    from togetherchat_client.call_info import CallInfo
    from togetherchat_client.channel import Tls
    from togetherchat_client.details import Violation
    from togetherchat_client.errors import (
        AuthenticationError,
        CallCancelledError,
        ConflictError,
        ContextLengthError,
        DeadlineExceededError,
        FailedPreconditionError,
        IncompleteStreamError,
        InternalError,
        InvalidRequestError,
        ModelNotFoundError,
        NotFoundError,
        PermissionDeniedError,
        QuotaExhaustedError,
        RateLimitedError,
        RequestTooLargeError,
        ResourceExhaustedError,
        SpendLimitError,
        TogetherChatError,
        UnavailableError,
        UnimplementedError,
    )
    from togetherchat_client.health import ServingStatus
    from togetherchat_client.messages import (
        assistant,
        developer,
        function_tool,
        image,
        json_schema,
        system,
        text_of,
        tool_result,
        user,
    )
    from togetherchat_client.reasons import ErrorReason

__all__ = [
    "Accumulator",
    "AsyncClient",
    "AsyncCompletionStream",
    "AuthenticationError",
    "CallCancelledError",
    "CallInfo",
    "Client",
    "CompletionStream",
    "ConflictError",
    "ContextLengthError",
    "DeadlineExceededError",
    "ErrorReason",
    "FailedPreconditionError",
    "IncompleteStreamError",
    "InternalError",
    "InvalidRequestError",
    "ModelNotFoundError",
    "NotFoundError",
    "PermissionDeniedError",
    "QuotaExhaustedError",
    "RateLimitedError",
    "RequestTooLargeError",
    "ResourceExhaustedError",
    "ServingStatus",
    "SpendLimitError",
    "Tls",
    "TogetherChatError",
    "UnavailableError",
    "UnimplementedError",
    "Violation",
    "assistant",
    "connect",
    "connect_async",
    "developer",
    "function_tool",
    "image",
    "json_schema",
    "system",
    "text_of",
    "tool_result",
    "user",
]

_NAMES_BY_MODULE = {
    "._async.client": (
        "AsyncClient",
        "connect_async",
    ),
    "._async.completion_stream": ("AsyncCompletionStream",),
    "._sync.client": (
        "Client",
        "connect",
    ),
    "._sync.completion_stream": ("CompletionStream",),
    ".call_info": ("CallInfo",),
    ".channel": ("Tls",),
    ".details": ("Violation",),
    ".errors": (
        "AuthenticationError",
        "CallCancelledError",
        "ConflictError",
        "ContextLengthError",
        "DeadlineExceededError",
        "FailedPreconditionError",
        "IncompleteStreamError",
        "InternalError",
        "InvalidRequestError",
        "ModelNotFoundError",
        "NotFoundError",
        "PermissionDeniedError",
        "QuotaExhaustedError",
        "RateLimitedError",
        "RequestTooLargeError",
        "ResourceExhaustedError",
        "SpendLimitError",
        "TogetherChatError",
        "UnavailableError",
        "UnimplementedError",
    ),
    ".health": ("ServingStatus",),
    ".messages": (
        "assistant",
        "developer",
        "function_tool",
        "image",
        "json_schema",
        "system",
        "text_of",
        "tool_result",
        "user",
    ),
    ".reasons": ("ErrorReason",),
    "togetherchat.accumulator": ("Accumulator",),
}
_MODULE_BY_NAME = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}


def __getattr__(name: str) -> object:
    module = _MODULE_BY_NAME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(module, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
