"""Writes `protos/togetherchat.binpb`: the contract as one descriptor set, for use without our protos.

    python clients/descriptor_set.py

The set has the contract with its comments, the error details (google.rpc), the health service, and
all imports. `buf` compiles the contract. The other descriptors come from the installed Python
packages, which have no comments.
"""

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import cast

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "protos" / "togetherchat.binpb"
OTHER_MODULES = ("google.rpc.status_pb2", "google.rpc.error_details_pb2", "grpc_health.v1.health_pb2")


def build() -> bytes:
    """The serialized descriptor set. The same protos and packages give the same bytes."""
    files = FileDescriptorSet.FromString(_contract())
    names = {file.name for file in files.file}
    for module in OTHER_MODULES:
        descriptor = cast("FileDescriptor", import_module(module).DESCRIPTOR)
        for needed in _with_imports(descriptor):
            if needed.name not in names:
                names.add(needed.name)
                needed.CopyToProto(files.file.add())
    return files.SerializeToString(deterministic=True)


def _contract() -> bytes:
    buf = shutil.which("buf", path=sysconfig.get_path("scripts")) or "buf"
    command = (buf, "build", "--as-file-descriptor-set", "--output", "-")
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout  # noqa: S603  a constant command


def _with_imports(file: FileDescriptor) -> Iterator[FileDescriptor]:
    """The file's imports, recursively, and then the file."""
    for imported in file.dependencies:
        yield from _with_imports(imported)
    yield file


def main() -> int:
    TARGET.write_bytes(build())
    return 0


if __name__ == "__main__":
    sys.exit(main())
