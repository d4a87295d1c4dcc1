"""The methods of ChatService, and the two shapes of an RPC: one response, or a stream of responses.

Owns how the messages of a response are written and counted. Knows no admission control, no deadline
and no status: those belong to the handler.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeAlias, TypeVar, final

from google.protobuf.message import DecodeError, Message

from togetherchat.v1 import chat_pb2
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.call import Call, EventBatch
from togetherchat_server.domain.ports import Chat, ModelListing
from togetherchat_server.domain.reasons import Reason, ServiceError

SERVICE: Final = "togetherchat.v1.ChatService"

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


@final
class UnparsableMessage:
    """A placeholder for a message that cannot be parsed, until the handler can reject it."""


UNPARSABLE: Final = UnparsableMessage()
Received: TypeAlias = Message | UnparsableMessage
Write: TypeAlias = Callable[[Message], Awaitable[None]]


def chat_methods(chat: Chat, models: ModelListing) -> "Mapping[str, Method]":
    """Return the methods of ChatService by their full names."""

    async def stream_complete(
        request: service.CompleteRequest, call: Call
    ) -> AsyncGenerator[EventBatch, None]:
        async with chat.stream(request, call) as batches:
            async for events in batches:
                yield events

    return {
        f"/{SERVICE}/Complete": UnaryMethod(request=service.CompleteRequest, handle=chat.complete),
        f"/{SERVICE}/StreamComplete": StreamMethod(request=service.CompleteRequest, handle=stream_complete),
        f"/{SERVICE}/ListModels": UnaryMethod(request=service.ListModelsRequest, handle=models.list_models),
        f"/{SERVICE}/GetModel": UnaryMethod(request=service.GetModelRequest, handle=models.get_model),
    }


@final
class RpcState:
    """The state of one call, from its first message to its last."""

    __slots__ = ("call", "closed", "completed", "messages_sent", "release", "releasing", "stalled", "usage")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.completed = False
        """Whether the last message was passed to gRPC. A deadline that passes later is not a failure."""
        self.closed = False
        """Whether the call record has been written."""
        self.stalled = False
        """Whether the call's resources were released while a write was waiting for its peer."""
        self.release: Callable[[], Coroutine[object, object, None]] | None = None
        """Releases the resources still held upstream. Called between two messages."""
        self.releasing: asyncio.Task[None] | None = None
        self.messages_sent = 0
        self.usage: chat_pb2.Usage | None = None


class Method(Protocol):
    """One method, as the handler calls it."""

    @property
    def streams(self) -> bool: ...

    def parse(self, data: bytes) -> Received: ...

    async def respond(self, received: Received, state: RpcState, write: Write) -> Message | None:
        """Handle the request. A returned message, if any, is still to be sent."""
        ...


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class UnaryMethod(Generic[Request, Response]):
    """An RPC with one response."""

    request: type[Request]
    handle: Callable[[Request, Call], Awaitable[Response]]
    streams: Final = False

    def parse(self, data: bytes) -> Received:
        return _parse(self.request, data)

    async def respond(self, received: Received, state: RpcState, write: Write) -> Message:
        del write
        response = await self.handle(_parsed_or_raise(received, self.request), state.call)
        state.messages_sent = 1
        if isinstance(response, service.CompleteResponse):
            state.usage = response.usage
        return response


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StreamMethod(Generic[Request]):
    """An RPC with a stream of responses, in batches."""

    request: type[Request]
    handle: Callable[[Request, Call], AsyncGenerator[EventBatch, None]]
    streams: Final = True

    def parse(self, data: bytes) -> Received:
        return _parse(self.request, data)

    async def respond(self, received: Received, state: RpcState, write: Write) -> None:
        async with aclosing(self.handle(_parsed_or_raise(received, self.request), state.call)) as batches:
            state.release = batches.aclose
            async for events in batches:
                for event in events:
                    if event.HasField("completed"):
                        state.completed = True
                        state.usage = event.completed.usage
                    await write(event)
                    state.messages_sent += 1


def serialise(message: Message) -> bytes:
    return message.SerializeToString()


def _parse(message: type[Message], data: bytes) -> Received:
    try:
        return message.FromString(data)
    except DecodeError:
        return UNPARSABLE


def _parsed_or_raise(received: Received, message: type[Request]) -> Request:
    if not isinstance(received, message):
        raise ServiceError(
            Reason.INVALID_REQUEST, f"the request is not a valid {message.DESCRIPTOR.full_name} message"
        )
    return received
