"""Reflection under both of its names, so that grpcurl and its like need no files.

grpcio-reflection registers `grpc.reflection.v1alpha` alone; newer clients ask for
`grpc.reflection.v1` first, whose messages are the same on the wire. A pool of our own holds
every file that may be described: the contract, health, both reflections, and the error
details of google.rpc, which grpcurl needs to print the details of a status as JSON.
"""

from collections.abc import Iterable
from typing import Final

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor
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
    servicer = reflection.aio.ReflectionServicer(names, pool=_pool())
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]  untyped context
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
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

    def visit(file: FileDescriptor) -> None:
        if file.name not in seen:
            for imported in file.dependencies:
                visit(imported)
            seen[file.name] = file

    for file in files:
        visit(file)
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
