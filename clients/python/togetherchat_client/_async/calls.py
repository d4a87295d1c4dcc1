"""Awaits a unary call, and converts a failed call to an exception."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import grpc

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_client.call_info import CallInfo
from togetherchat_client.errors import TogetherChatError, error_from_status

if TYPE_CHECKING:
    from grpc.aio import Call, UnaryUnaryCall

RequestT = TypeVar("RequestT")  # async only
ResponseT = TypeVar("ResponseT")

OnInfo: TypeAlias = Callable[[CallInfo], None]


async def unary(
    call: "UnaryUnaryCall[RequestT, ResponseT]",
    *,
    request_id: str,
    on_info: OnInfo | None,
) -> ResponseT:
    """Wait for the response of `call`. The call never outlives this function."""
    try:
        response = await call
    except grpc.RpcError as exc:
        raise await error_from_call(call, request_id=request_id) from exc
    finally:
        call.cancel()
    if on_info is not None:
        on_info(CallInfo.from_trailers(await call.trailing_metadata(), request_id=request_id))
    return response


async def error_from_call(
    call: "Call", *, request_id: str, partial: service.CompleteResponse | None = None
) -> TogetherChatError:
    """Return the exception for a call that ended with an error."""
    return error_from_status(
        await call.code(),
        await call.details() or "",
        await call.trailing_metadata() or (),
        request_id=request_id,
        partial=partial,
    )
