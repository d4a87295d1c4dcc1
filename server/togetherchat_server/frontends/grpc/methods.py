"""The methods of the services, and the two shapes of an RPC: one response, or a stream of responses.

Owns how requests are parsed, and how the messages of a response are written and counted. Knows no
context of gRPC and no status: those belong to the handler.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeAlias, TypeVar, cast, final

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from togetherchat.v1 import chat_service_pb2 as chat
from togetherchat.v1 import usage_service_pb2 as usage
from togetherchat_server.calls.session import Session
from togetherchat_server.calls.session_stream import SessionStream
from togetherchat_server.calls.validation.elements import SCANNED_BYTES
from togetherchat_server.domain.identity import Scope
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.frontends.grpc.wire_elements import wire_elements

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


@final
class UnparsableMessage:
    """A placeholder for a message that cannot be parsed, until the handler can reject it."""


@final
@dataclass(frozen=True, slots=True)
class LargeMessage:
    """The bytes of a message that is scanned before it is parsed."""

    data: bytes


UNPARSABLE: Final = UnparsableMessage()
Received: TypeAlias = Message | UnparsableMessage | LargeMessage


class Responder(Protocol):
    """What a method needs to respond."""

    @property
    def session(self) -> Session: ...

    async def write(self, message: Message) -> None:
        """Write one message of a stream. Raises ServiceError if the peer is gone or does not read."""
        ...

    def streaming(self, stream: SessionStream) -> None:
        """Declare the stream whose resources are released if the peer stops reading."""
        ...


class Method(Protocol):
    """One method, as the handler calls it."""

    @property
    def streams(self) -> bool: ...

    @property
    def scope(self) -> Scope:
        """The scope that a caller needs."""
        ...

    def parse(self, data: bytes) -> Received: ...

    async def respond(self, received: Received, responder: Responder) -> Message | None:
        """Handle the request. A returned message, if any, is still to be sent."""
        ...


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class UnaryMethod(Generic[Request, Response]):
    """An RPC with one response."""

    scope: Scope
    request: type[Request]
    handle: Callable[[Session, Request], Awaitable[Response]]
    streams: Final = False

    def parse(self, data: bytes) -> Received:
        return _parse(self.request, data)

    async def respond(self, received: Received, responder: Responder) -> Message:
        session = responder.session
        request = (
            received if isinstance(received, self.request) else await _parsed(received, self.request, session)
        )
        response = await self.handle(session, request)
        session.sending_response()
        return response


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StreamMethod(Generic[Request]):
    """An RPC with a stream of responses, in batches."""

    scope: Scope
    request: type[Request]
    handle: Callable[[Session, Request], SessionStream]
    streams: Final = True

    def parse(self, data: bytes) -> Received:
        return _parse(self.request, data)

    async def respond(self, received: Received, responder: Responder) -> None:
        session = responder.session
        request = (
            received if isinstance(received, self.request) else await _parsed(received, self.request, session)
        )
        async with self.handle(session, request) as stream:
            responder.streaming(stream)
            async for events in stream:
                for event in events:
                    session.sending(event)
                    await responder.write(event)


SERVICES: Final[Mapping[str, Mapping[str, Method]]] = {
    "togetherchat.v1.ChatService": {
        "Complete": UnaryMethod(scope=Scope.CHAT, request=chat.CompleteRequest, handle=Session.complete),
        "StreamComplete": StreamMethod(scope=Scope.CHAT, request=chat.CompleteRequest, handle=Session.stream),
        "ListModels": UnaryMethod(
            scope=Scope.MODELS, request=chat.ListModelsRequest, handle=Session.list_models
        ),
        "GetModel": UnaryMethod(scope=Scope.MODELS, request=chat.GetModelRequest, handle=Session.get_model),
    },
    "togetherchat.v1.UsageService": {
        "QueryUsage": UnaryMethod(
            scope=Scope.USAGE, request=usage.QueryUsageRequest, handle=Session.query_usage
        ),
        "ListQuotas": UnaryMethod(
            scope=Scope.USAGE, request=usage.ListQuotasRequest, handle=Session.list_quotas
        ),
        "ResetQuota": UnaryMethod(
            scope=Scope.ADMIN, request=usage.ResetQuotaRequest, handle=Session.reset_quota
        ),
    },
}
"""The methods of each service of the contract."""
METHODS: Final[Mapping[str, Method]] = {
    f"/{service}/{name}": method for service, methods in SERVICES.items() for name, method in methods.items()
}
"""The methods by their full names."""


def serialise(message: Message) -> bytes:
    return message.SerializeToString()


def _parse(message: type[Message], data: bytes) -> Received:
    if len(data) > SCANNED_BYTES:
        return LargeMessage(data)
    try:
        return message.FromString(data)
    except DecodeError:
        return UNPARSABLE


async def _parsed(received: Received, message: type[Request], session: Session) -> Request:
    """Parse a large message, after its fields have been counted. Raises ServiceError INVALID_REQUEST."""
    if isinstance(received, LargeMessage):
        await session.check_elements(wire_elements(received.data, cast("Descriptor", message.DESCRIPTOR)))
        with suppress(DecodeError):
            return message.FromString(received.data)
    raise ServiceError(
        Reason.INVALID_REQUEST, f"the request is not a valid {message.DESCRIPTOR.full_name} message"
    )
