# Generated from _async/calls.py by generate_sync.py. Edit that file instead.
"""Awaits a unary call, and converts a failed call to an exception."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import grpc

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_client.call_info import CallInfo
from togetherchat_client.errors import TogetherChatError, error_from_status

if TYPE_CHECKING:
    from togetherchat_client.blocking import BlockingCall, FutureCall

ResponseT = TypeVar("ResponseT")

OnInfo: TypeAlias = Callable[[CallInfo], None]


def unary(
    call: "FutureCall[ResponseT]",
    *,
    request_id: str,
    on_info: OnInfo | None,
) -> ResponseT:
    """Wait for the response of `call`. The call never outlives this function."""
    try:
        response = call.result()
    except grpc.RpcError as exc:
        raise error_from_call(call, request_id=request_id) from exc
    finally:
        call.cancel()
    if on_info is not None:
        on_info(CallInfo.from_trailers(call.trailing_metadata(), request_id=request_id))
    return response


def error_from_call(
    call: "BlockingCall", *, request_id: str, partial: service.CompleteResponse | None = None
) -> TogetherChatError:
    """Return the exception for a call that ended with an error."""
    return error_from_status(
        call.code(),
        call.details() or "",
        call.trailing_metadata() or (),
        request_id=request_id,
        partial=partial,
    )
