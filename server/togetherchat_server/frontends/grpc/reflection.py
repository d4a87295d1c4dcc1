"""Server reflection under both of its names, so that tools such as grpcurl need no proto files.

grpcio-reflection only registers `grpc.reflection.v1alpha`; newer clients try `grpc.reflection.v1`
first, whose messages are the same on the wire. A descriptor pool of our own holds every file that may
be described: the contract, health, both versions of reflection, and the error details of google.rpc,
which grpcurl needs to print the details of a status as JSON.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Final, TypeAlias, cast, final

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from togetherchat.v1 import chat_service_pb2, usage_service_pb2
from togetherchat_server.frontends.grpc.health import SERVICE as HEALTH_SERVICE
from togetherchat_server.frontends.grpc.methods import SERVICES
from togetherchat_server.frontends.grpc.read_permits import ReadPermits, ReadTimeoutError

V1ALPHA: Final = "grpc.reflection.v1alpha"
V1: Final = "grpc.reflection.v1"
REQUEST_BYTES_MAX: Final = 4096
IDLE_TIMEOUT_S: Final = 60.0
"""How long a stream without a request stays open, if nothing else needs its read permit."""

Request: TypeAlias = reflection_pb2.ServerReflectionRequest
Response: TypeAlias = reflection_pb2.ServerReflectionResponse
Context: TypeAlias = "aio.ServicerContext[Request, Response]"

_DESCRIBED: Final = (
    chat_service_pb2.DESCRIPTOR.name,
    usage_service_pb2.DESCRIPTOR.name,
    health_pb2.DESCRIPTOR.name,
    reflection_pb2.DESCRIPTOR.name,
    error_details_pb2.DESCRIPTOR.name,
    status_pb2.DESCRIPTOR.name,
)


def add_reflection(server: aio.Server, permits: ReadPermits) -> None:
    """Add the reflection service under v1 and v1alpha. Requests are read with these permits."""
    names = (*SERVICES, HEALTH_SERVICE, f"{V1}.ServerReflection", f"{V1ALPHA}.ServerReflection")
    servicer = reflection.aio.ReflectionServicer(names, pool=_DescriptorPool(_pool()))  # pyright: ignore[reportArgumentType]  a pool cannot be subclassed

    async def reflect(_requests: object, context: Context) -> None:
        requests = _requests_of(context, permits)
        responses = cast(  # the stubs describe it as a coroutine
            "AsyncGenerator[Response, None]",
            servicer.ServerReflectionInfo(requests, context),  # pyright: ignore[reportUnknownMemberType]  untyped context
        )
        async with aclosing(requests), aclosing(responses):
            async for response in responses:
                try:
                    await context.write(response)
                except aio.InternalError as exc:
                    raise asyncio.CancelledError from exc  # the peer disconnected during the write

    handler = grpc.stream_stream_rpc_method_handler(
        reflect,
        request_deserializer=_parse,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for package in (V1, V1ALPHA):
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    f"{package}.ServerReflection", {"ServerReflectionInfo": handler}
                ),
            )
        )


async def _requests_of(context: Context, permits: ReadPermits) -> AsyncGenerator[Request, None]:
    """Yield the requests of a stream, which ends when its peer sends none for too long: clients reopen it."""
    while True:
        try:
            request = await permits.read(context, timeout_s=IDLE_TIMEOUT_S)
        except ReadTimeoutError:
            return
        if not isinstance(request, Request):
            return
        yield request


@final
class _DescriptorPool:
    """The part of a descriptor pool that the servicer uses.

    Protobuf's pool finds no file for the name of a method, which `grpcurl describe` looks up.
    """

    def __init__(self, pool: descriptor_pool.DescriptorPool) -> None:
        self.FindFileByName = pool.FindFileByName
        self.FindMessageTypeByName = pool.FindMessageTypeByName
        self.FindExtensionByNumber = pool.FindExtensionByNumber
        self.FindAllExtensions = pool.FindAllExtensions
        self._pool = pool

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802  the pool's own name
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            return self._pool.FindMethodByName(symbol).containing_service.file


def _parse(data: bytes) -> Request:
    """Parse a request; invalid bytes become an empty one, which the servicer rejects with an error.

    An exception must not be raised here: gRPC would send its text to the caller.
    """
    if len(data) > REQUEST_BYTES_MAX:
        return Request()
    try:
        return Request.FromString(data)
    except DecodeError:
        return Request()


def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    default = descriptor_pool.Default()
    for file in _with_imports(default.FindFileByName(name) for name in _DESCRIBED):
        pool.AddSerializedFile(file.serialized_pb)
    pool.AddSerializedFile(_as_v1(reflection_pb2.DESCRIPTOR.serialized_pb).SerializeToString())
    return pool


def _with_imports(files: Iterable[FileDescriptor]) -> Iterable[FileDescriptor]:
    """Return the files and everything that they import, each once, imports first."""
    seen: dict[str, FileDescriptor] = {}

    def add(file: FileDescriptor) -> None:
        if file.name not in seen:
            for imported in file.dependencies:
                add(imported)
            seen[file.name] = file

    for file in files:
        add(file)
    return seen.values()


def _as_v1(v1alpha: bytes) -> descriptor_pb2.FileDescriptorProto:
    """Return the v1alpha file with the names of v1."""
    proto = descriptor_pb2.FileDescriptorProto.FromString(v1alpha)
    proto.name, proto.package = "grpc/reflection/v1/reflection.proto", V1
    for message in proto.message_type:
        for field in message.field:
            if not field.type_name:  # assigning it, even an empty name, makes it a message field
                continue
            field.type_name = field.type_name.replace(V1ALPHA, V1)
    for service in proto.service:
        for method in service.method:
            method.input_type = method.input_type.replace(V1ALPHA, V1)
            method.output_type = method.output_type.replace(V1ALPHA, V1)
    return proto
