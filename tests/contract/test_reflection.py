"""Reflection as grpcurl uses it, over a real channel and under both of its names."""

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from support.app import failing, request, running_app
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import json_response
from togetherchat.v1 import chat_pb2, chat_service_pb2, models_pb2, usage_service_pb2

BOTH = pytest.mark.parametrize("version", ["v1", "v1alpha"])
SERVICES = {
    "togetherchat.v1.ChatService",
    "togetherchat.v1.UsageService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
}
DETAILS = (
    "ErrorInfo",
    "RequestInfo",
    "RetryInfo",
    "BadRequest",
    "QuotaFailure",
    "PreconditionFailure",
    "ResourceInfo",
    "Help",
)
GENERATED = (
    chat_pb2,
    chat_service_pb2,
    models_pb2,
    usage_service_pb2,
    health_pb2,
    error_details_pb2,
    status_pb2,
    reflection_pb2,
)


def query(**what):
    return reflection_pb2.ServerReflectionRequest(**what)


class Reflection:
    """A client of one version; both have the same messages on the wire."""

    def __init__(self, channel: aio.Channel, version: str) -> None:
        self._info = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )

    async def responses(self, *requests):
        """Return the responses to some requests on one stream."""
        return [response async for response in self._info(requests)]

    async def files(self, **what):
        """Return the files of a response by name."""
        (response,) = await self.responses(query(**what))
        assert response.HasField("file_descriptor_response"), response
        packed = response.file_descriptor_response.file_descriptor_proto
        files = [descriptor_pb2.FileDescriptorProto.FromString(file) for file in packed]
        return {file.name: file for file in files}


def pool_of(files):
    """Return a pool of these files, each added after its imports, which must all be present."""
    pool, added = descriptor_pool.DescriptorPool(), set()

    def add(name):
        if name not in added:
            added.add(name)
            for imported in files[name].dependency:
                add(imported)
            pool.AddSerializedFile(files[name].SerializeToString())

    for name in files:
        add(name)
    return pool


def as_proto(module):
    found = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(found)
    return found


@BOTH
async def test_every_service_is_listed(version):
    """grpcurl prints this for `list`, in either version."""
    async with running_app() as app:
        (response,) = await Reflection(app.channel, version).responses(query(list_services=""))

    assert SERVICES == {service.name for service in response.list_services_response.service}


@BOTH
@pytest.mark.parametrize("symbol", [*sorted(SERVICES), *(f"google.rpc.{name}" for name in DETAILS)])
async def test_every_service_and_error_detail_is_described(version, symbol):
    """The file of a symbol comes with its imports, and contains the symbol."""
    async with running_app() as app:
        files = await Reflection(app.channel, version).files(file_containing_symbol=symbol)

    pool = pool_of(files)
    find = pool.FindServiceByName if symbol in SERVICES else pool.FindMessageTypeByName
    assert symbol == find(symbol).full_name


@BOTH
@pytest.mark.parametrize(
    "symbol",
    [
        *(f"ChatService.{name}" for name in ("Complete", "StreamComplete", "ListModels", "GetModel")),
        "CompleteRequest",
        "CompleteRequest.model",
        "StreamCompleteResponse",
    ],
)
async def test_methods_messages_and_fields_are_described(version, symbol):
    """Protobuf's own pool finds no file for a method."""
    async with running_app() as app:
        client = Reflection(app.channel, version)
        files = await client.files(file_containing_symbol=f"togetherchat.v1.{symbol}")

    assert chat_service_pb2.DESCRIPTOR.name in files


@BOTH
@pytest.mark.parametrize("module", GENERATED, ids=lambda module: module.DESCRIPTOR.name)
async def test_described_files_are_the_generated_ones(version, module):
    """The descriptors are equal to those of the generated code."""
    async with running_app() as app:
        files = await Reflection(app.channel, version).files(file_by_filename=module.DESCRIPTOR.name)

    assert as_proto(module) == files[module.DESCRIPTOR.name]


async def test_the_file_of_v1_is_that_of_v1alpha_under_its_own_name():
    """Messages and method are the same, and every name is that of v1."""
    async with running_app() as app:
        client = Reflection(app.channel, "v1")
        files = await client.files(file_containing_symbol="grpc.reflection.v1.ServerReflection")

    (file,) = files.values()
    original = as_proto(reflection_pb2)
    assert ("grpc/reflection/v1/reflection.proto", "grpc.reflection.v1") == (file.name, file.package)
    for descriptor in (file, original):
        descriptor.ClearField("options")
        descriptor.ClearField("name")
    assert str(original).replace("v1alpha", "v1") == str(file)


@BOTH
@pytest.mark.parametrize(
    "what",
    [
        {"file_containing_symbol": "togetherchat.v1.Nothing"},
        {"file_by_filename": "nothing.proto"},
        {"all_extension_numbers_of_type": "togetherchat.v1.Nothing"},
    ],
    ids=["symbol", "file", "type"],
)
async def test_an_unknown_name_is_an_error_response(version, what):
    """The response holds NOT_FOUND; the stream continues with the next request."""
    async with running_app() as app:
        unknown, known = await Reflection(app.channel, version).responses(
            query(**what), query(list_services="")
        )

    assert StatusCode.NOT_FOUND.value[0] == unknown.error_response.error_code
    assert SERVICES == {service.name for service in known.list_services_response.service}


@BOTH
async def test_an_unparsable_request_is_an_error_response(version):
    """No exception is sent, and the service continues."""
    async with running_app() as app:
        raw = app.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        (response,) = [response async for response in raw([b"\xff\xff"])]
        (after,) = await Reflection(app.channel, version).responses(query(list_services=""))

    assert StatusCode.INVALID_ARGUMENT.value[0] == response.error_response.error_code
    assert after.HasField("list_services_response")


@BOTH
async def test_reflection_can_be_disabled(version):
    """Calls still work."""
    async with (
        ScriptedUpstream(always(json_response(503, {"error": "no"}))) as upstream,
        running_app(upstream.base_url, reflection=False) as app,
    ):
        rejected = await failing(Reflection(app.channel, version).responses(query(list_services="")))
        served = await failing(app.chat.Complete(request()))

    assert StatusCode.UNIMPLEMENTED is rejected.code
    assert "UPSTREAM_OVERLOADED" == served.info.reason
