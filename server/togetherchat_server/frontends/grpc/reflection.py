"""Reflection under both of its names, so that grpcurl and its like need no files.

grpcio-reflection registers `grpc.reflection.v1alpha` alone; newer clients ask for
`grpc.reflection.v1` first, whose messages are the same on the wire. A pool of our own holds
every file that may be described: the contract, health, both reflections, and the error
details of google.rpc, which grpcurl needs to print the details of a status as JSON.
"""

from collections.abc import Iterable
from typing import Final, final

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from togetherchat.v1 import chat_service_pb2

SERVICES: Final = ("togetherchat.v1.ChatService", "grpc.health.v1.Health")
V1ALPHA: Final = "grpc.reflection.v1alpha"
V1: Final = "grpc.reflection.v1"

_DESCRIBED: Final = (
    chat_service_pb2.DESCRIPTOR.name,
    health_pb2.DESCRIPTOR.name,
    reflection_pb2.DESCRIPTOR.name,
    error_details_pb2.DESCRIPTOR.name,
    status_pb2.DESCRIPTOR.name,
)


def add_reflection(server: aio.Server) -> None:
    """Describe the service under v1 and v1alpha."""
    names = (*SERVICES, f"{V1}.ServerReflection", f"{V1ALPHA}.ServerReflection")
    servicer = reflection.aio.ReflectionServicer(names, pool=_Described(_pool()))  # pyright: ignore[reportArgumentType]  a pool can have no subclass
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]  untyped context
        request_deserializer=_parsed,
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


@final
class _Described:
    """What the servicer asks of a pool. Python's own knows no file for a method, for which
    `grpcurl describe` asks.
    """

    def __init__(self, pool: descriptor_pool.DescriptorPool) -> None:
        self.FindFileByName = pool.FindFileByName
        self.FindMessageTypeByName = pool.FindMessageTypeByName
        self.FindExtensionByNumber = pool.FindExtensionByNumber
        self.FindAllExtensions = pool.FindAllExtensions
        self._pool = pool

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802  a pool's name for it
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            return self._pool.FindMethodByName(symbol).containing_service.file


def _parsed(data: bytes) -> reflection_pb2.ServerReflectionRequest:
    """Bytes that are no message become a question about nothing, which is answered as an error:
    the text of an exception would reach the caller.
    """
    try:
        return reflection_pb2.ServerReflectionRequest.FromString(data)
    except DecodeError:
        return reflection_pb2.ServerReflectionRequest()


def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    everything = descriptor_pool.Default()
    for file in _with_imports(everything.FindFileByName(name) for name in _DESCRIBED):
        pool.AddSerializedFile(file.serialized_pb)
    pool.AddSerializedFile(_renamed(reflection_pb2.DESCRIPTOR.serialized_pb).SerializeToString())
    return pool


def _with_imports(files: Iterable[FileDescriptor]) -> Iterable[FileDescriptor]:
    """The files and all they import, each once, imports first."""
    seen: dict[str, FileDescriptor] = {}

    def http_call(file: FileDescriptor) -> None:
        if file.name not in seen:
            for imported in file.dependencies:
                http_call(imported)
            seen[file.name] = file

    for file in files:
        http_call(file)
    return seen.values()


def _renamed(v1alpha: bytes) -> descriptor_pb2.FileDescriptorProto:
    """The v1alpha file under the names of v1."""
    proto = descriptor_pb2.FileDescriptorProto.FromString(v1alpha)
    proto.name, proto.package = "grpc/reflection/v1/reflection.proto", V1
    for message in proto.message_type:
        for field in message.field:
            if not field.type_name:  # setting it, even to nothing, makes it a message
                continue
            field.type_name = field.type_name.replace(V1ALPHA, V1)
    for service in proto.service:
        for method in service.method:
            method.input_type = method.input_type.replace(V1ALPHA, V1)
            method.output_type = method.output_type.replace(V1ALPHA, V1)
    return proto
