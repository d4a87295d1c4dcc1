# Generated from _async/completion_stream.py by generate_sync.py. Edit that file instead.
"""One streamed completion.

The context manager of `Client.stream` owns the stream and cancels the call at its exit. So the
service closes its request to the provider when a caller ends a stream early.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import grpc

from togetherchat.accumulator import Accumulator
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_client._sync.calls import OnInfo, error_from_call
from togetherchat_client.blocking import as_call, events_of
from togetherchat_client.call_info import CallInfo
from togetherchat_client.errors import TogetherChatError, error_from_status

if TYPE_CHECKING:
    from togetherchat_client.blocking import IteratorCall


class CompletionStream:
    """A streamed completion. Iterate over the stream for events, or over `text()` for text.

    Iteration ends normally only when the completion is whole. Any other end raises a
    `TogetherChatError` with the partial response in `partial`.

    The service numbers the tool calls of a response, so the accumulator trusts their indexes.
    """

    def __init__(
        self,
        call: "IteratorCall[service.StreamCompleteResponse]",
        *,
        request_id: str,
        on_info: OnInfo | None,
    ) -> None:
        self._call = as_call(call)
        self._events = events_of(self._call)
        self._request_id = request_id
        self._on_info = on_info
        self._accumulator = Accumulator()
        self._info: CallInfo | None = None

    def __iter__(self) -> Iterator[service.StreamCompleteResponse]:
        return self

    def __next__(self) -> service.StreamCompleteResponse:
        try:
            event = next(self._events)
        except StopIteration:
            self._end()
            raise
        except grpc.RpcError as exc:
            raise self._error() from exc
        self._accumulator.add(event)
        return event

    def events(self) -> Iterator[service.StreamCompleteResponse]:
        """The events as they arrive. Ignore an event with no known field set."""
        return self

    def text(self, *, choice_index: int = 0) -> Iterator[str]:
        """The text deltas of one choice as they arrive."""
        for event in self:
            if event.delta.text and event.delta.choice_index == choice_index:
                yield event.delta.text

    def finish(self) -> service.CompleteResponse:
        """Read the rest of the stream and return the whole response."""
        for _ in self:
            pass
        return self.response

    def cancel(self) -> None:
        """Cancel the call. A running iteration raises `CallCancelledError`."""
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

    def _error(self) -> TogetherChatError:
        return error_from_call(self._call, request_id=self._request_id, partial=self._partial())

    def _end(self) -> None:
        trailers = self._call.trailing_metadata() or ()
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
