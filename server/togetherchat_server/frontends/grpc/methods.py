"""The ChatService, thin: ask the port, hand on the answer.

MERGED: The two shapes of our RPCs: one answer, or a stream of answers.

Owns how the parts of an answer are written and counted. Knows no admission, no deadline and
no status: those are the handler's.
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

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


@final
class UnparsableMessage:
    """Stands for a message that could not be parsed, until the handler can say so."""


UNPARSABLE: Final = UnparsableMessage()
Received: TypeAlias = Message | UnparsableMessage
Write: TypeAlias = Callable[[Message], Awaitable[None]]


@final
class RpcState:
    """One call between its first and its last message."""

    __slots__ = ("call", "closed", "completed", "messages_sent", "release", "releasing", "stalled", "usage")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.completed = False
        """Whether the last message was handed to gRPC. The time that is up later is no failure."""
        self.closed = False
        """Whether the call is in the books."""
        self.stalled = False
        """Whether what it held was given back while a write was waiting for its peer."""
        self.release: Callable[[], Coroutine[object, object, None]] | None = None
        """Frees what is still held upstream, between two messages."""
        self.releasing: asyncio.Task[None] | None = None
        self.messages_sent = 0
        self.usage: chat_pb2.Usage | None = None


class Method(Protocol):
    """What the handler serves."""

    @property
    def streams(self) -> bool: ...

    def parse(self, data: bytes) -> Received: ...

    async def respond(self, received: Received, state: RpcState, write: Write) -> Message | None:
        """Answer. What is returned, if anything, is still to be sent."""
        ...


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class UnaryMethod(Generic[Request, Response]):
    """An RPC with one answer."""

    request: type[Request]
    answer: Callable[[Request, Call], Awaitable[Response]]
    streams: Final = False

    def parse(self, data: bytes) -> Received:
        return _parse(self.request, data)

    async def respond(self, received: Received, state: RpcState, write: Write) -> Message:
        del write
        response = await self.answer(_checked(received, self.request), state.call)
        state.messages_sent = 1
        if isinstance(response, service.CompleteResponse):
            state.usage = response.usage
        return response


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StreamMethod(Generic[Request]):
    """An RPC with a stream of answers, in batches."""

    request: type[Request]
    answer: Callable[[Request, Call], AsyncGenerator[EventBatch, None]]
    streams: Final = True

    def parse(self, data: bytes) -> Received:
        return _parse(self.request, data)

    async def respond(self, received: Received, state: RpcState, write: Write) -> None:
        async with aclosing(self.answer(_checked(received, self.request), state.call)) as batches:
            state.release = batches.aclose
            async for events in batches:
                for event in events:
                    if event.HasField("completed"):
                        state.completed = True
                        state.usage = event.completed.usage
                    await write(event)
                    state.messages_sent += 1


def _parse(message: type[Message], data: bytes) -> Received:
    try:
        return message.FromString(data)
    except DecodeError:
        return UNPARSABLE


def _checked(received: Received, message: type[Request]) -> Request:
    if not isinstance(received, message):
        raise ServiceError(Reason.INVALID_REQUEST, "the request is no valid message of this contract")
    return received


SERVICE: Final = "togetherchat.v1.ChatService"


def chat_methods(chat: Chat, models: ModelListing) -> Mapping[str, Method]:
    """The RPCs of ChatService by their full names."""

    async def stream_complete(
        request: service.CompleteRequest, call: Call
    ) -> AsyncGenerator[EventBatch, None]:
        async with chat.stream(request, call) as batches:
            async for events in batches:
                yield events

    return {
        f"/{SERVICE}/Complete": UnaryMethod(request=service.CompleteRequest, answer=chat.complete),
        f"/{SERVICE}/StreamComplete": StreamMethod(request=service.CompleteRequest, answer=stream_complete),
        f"/{SERVICE}/ListModels": UnaryMethod(request=service.ListModelsRequest, answer=models.list_models),
    }
