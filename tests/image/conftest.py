"""Fixtures of the image tests: the mounted files, the manifest, and a channel to the server."""

import json
from pathlib import Path

import pytest
from grpc import aio

from image.containers import IMAGE, podman
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc


@pytest.fixture(scope="session")
def root():
    """The mounted root of the image."""
    yield Path(podman("image", "mount", IMAGE))
    podman("image", "unmount", IMAGE)


@pytest.fixture(scope="session")
def manifest():
    """The manifest of the image."""
    return json.loads(podman("image", "inspect", IMAGE))[0]


@pytest.fixture
async def channel():
    async with aio.insecure_channel("127.0.0.1:50051") as opened:
        yield opened


@pytest.fixture
def chat(channel):
    return service_grpc.ChatServiceStub(channel)
