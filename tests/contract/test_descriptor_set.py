"""The descriptor set of the release is the current contract, with all its imports."""

import runpy
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

ROOT = Path(__file__).parents[2]
COMMITTED = (ROOT / "protos" / "togetherchat.binpb").read_bytes()
FILES = {file.name: file for file in FileDescriptorSet.FromString(COMMITTED).file}
OURS = ("chat.proto", "chat_service.proto", "models.proto")


def test_the_committed_set_is_current():
    """`make release` would write the same set."""
    built = runpy.run_path(str(ROOT / "clients" / "descriptor_set.py"))["build"]()
    now = {file.name: file for file in FileDescriptorSet.FromString(built).file}

    assert set(now) == set(FILES)
    assert [] == [name for name in OURS if now[f"togetherchat/v1/{name}"] != FILES[f"togetherchat/v1/{name}"]]


def test_the_set_needs_no_other_file():
    """Every import precedes the files that need it."""
    pool = DescriptorPool()
    for file in FILES.values():
        pool.Add(file)

    assert ["Complete", "StreamComplete", "ListModels", "GetModel"] == [
        method.name for method in pool.FindServiceByName("togetherchat.v1.ChatService").methods
    ]
    assert ["QueryUsage", "ListQuotas", "ResetQuota"] == [
        method.name for method in pool.FindServiceByName("togetherchat.v1.UsageService").methods
    ]


def test_the_set_includes_error_details_and_health():
    """A client can decode error details and call the health service with the set alone."""
    packages = {file.package for file in FILES.values()}

    assert {"togetherchat.v1", "google.rpc", "grpc.health.v1"} <= packages


def test_the_set_has_the_comments():
    """A code generator copies the comments into its output."""
    comments = [
        location.leading_comments
        for name in OURS
        for location in FILES[f"togetherchat/v1/{name}"].source_code_info.location
    ]

    assert any("Stream guarantees" in comment for comment in comments)
