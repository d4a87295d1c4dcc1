"""One streamed completion.

The context manager of `AsyncClient.stream` owns the stream and cancels the call at its exit. So the
service closes its request to the provider when a caller ends a stream early.
"""

import asyncio  # async only
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc

from togetherchat.accumulator import Accumulator
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_client._async.calls import OnInfo, error_from_call
from togetherchat_client.call_info import CallInfo
from togetherchat_client.errors import TogetherChatError, error_from_status

if TYPE_CHECKING:
    from grpc.aio import UnaryStreamCall


class AsyncCompletionStream:
    """A streamed completion. Iterate over the stream for events, or over `text()` for text.

    Iteration ends normally only when the completion is whole. Any other end raises a
    `TogetherChatError` with the partial response in `partial`.

    The service numbers the tool calls of a response, so the accumulator trusts their indexes.
    """

    def __init__(
        self,
        call: "UnaryStreamCall[service.CompleteRequest, service.StreamCompleteResponse]",
        *,
        request_id: str,
        on_info: OnInfo | None,
    ) -> None:
        self._call = call
        self._events = aiter(self._call)
        self._request_id = request_id
        self._on_info = on_info
        self._accumulator = Accumulator()
        self._info: CallInfo | None = None
        self._cancelled = False  # async only

    def __aiter__(self) -> AsyncIterator[service.StreamCompleteResponse]:
        return self

    async def __anext__(self) -> service.StreamCompleteResponse:
        try:
            event = await anext(self._events)
        except StopAsyncIteration:
            await self._end()
            raise
        except grpc.RpcError as exc:
            raise await self._error() from exc
        # begin async only
        except asyncio.CancelledError as exc:
            # `cancel()` and a cancelled task raise the same exception here: the next lines distinguish them.
            task = asyncio.current_task()
            if not self._cancelled or (task is not None and task.cancelling()):
                raise
            raise error_from_status(
                grpc.StatusCode.CANCELLED,
                "the stream was cancelled",
                (),
                request_id=self._request_id,
                partial=self._partial(),
            ) from exc
        # end async only
        self._accumulator.add(event)
        return event

    def events(self) -> AsyncIterator[service.StreamCompleteResponse]:
        """The events as they arrive. Ignore an event with no known field set."""
        return self

    async def text(self, *, choice_index: int = 0) -> AsyncIterator[str]:
        """The text deltas of one choice as they arrive."""
        async for event in self:
            if event.delta.text and event.delta.choice_index == choice_index:
                yield event.delta.text

    async def finish(self) -> service.CompleteResponse:
        """Read the rest of the stream and return the whole response."""
        async for _ in self:
            pass
        return self.response

    def cancel(self) -> None:
        """Cancel the call. A running iteration raises `CallCancelledError`."""
        self._cancelled = True  # async only
        self._call.cancel()

    @property
    def response(self) -> service.CompleteResponse:
        """The response so far; partial unless `whole` is true."""
        return self._accumulator.response()

    @property
    def whole(self) -> bool:
        """Whether the stream has sent its last event, `completed`."""
        return self._accumulator.whole

    @property
    def request_id(self) -> str:
        return self._info.request_id if self._info else self._request_id

    @property
    def info(self) -> CallInfo | None:
        """The call's ids, rate limits and trailers. None until the stream has ended."""
        return self._info

    def _partial(self) -> service.CompleteResponse | None:
        return None if self._accumulator.empty else self._accumulator.response()

    async def _error(self) -> TogetherChatError:
        return await error_from_call(self._call, request_id=self._request_id, partial=self._partial())

    async def _end(self) -> None:
        trailers = await self._call.trailing_metadata() or ()
        if not self._accumulator.whole:
            raise error_from_status(
                grpc.StatusCode.OK,
                "the stream ended without its last event",
                trailers,
                request_id=self._request_id,
                partial=self._partial(),
            )
        if self._info is None:
            self._info = CallInfo.from_trailers(trailers, request_id=self._request_id)
            if self._on_info is not None:
                self._on_info(self._info)
