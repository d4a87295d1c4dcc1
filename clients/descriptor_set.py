"""Writes `protos/togetherchat.binpb`: the contract as one descriptor set, for generators without our files.

    python clients/descriptor_set.py

It holds the contract with its comments, and what travels beside it: the details of errors
(google.rpc), the health service, and all that these import. `buf` compiles the contract; the
others come out of the packages that this service runs with, which ship no comments.
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
BESIDE = ("google.rpc.status_pb2", "google.rpc.error_details_pb2", "grpc_health.v1.health_pb2")


def build() -> bytes:
    """The descriptor set, the same bytes for the same protos and packages."""
    files = FileDescriptorSet.FromString(_contract())
    known = {file.name for file in files.file}
    for module in BESIDE:
        descriptor = cast("FileDescriptor", import_module(module).DESCRIPTOR)
        for needed in _with_imports(descriptor):
            if needed.name not in known:
                known.add(needed.name)
                needed.CopyToProto(files.file.add())
    return files.SerializeToString(deterministic=True)


def _contract() -> bytes:
    buf = shutil.which("buf", path=sysconfig.get_path("scripts")) or "buf"
    words = (buf, "build", "--as-file-descriptor-set", "--output", "-")
    return subprocess.run(words, cwd=ROOT, capture_output=True, check=True).stdout  # noqa: S603  our own words


def _with_imports(file: FileDescriptor) -> Iterator[FileDescriptor]:
    """A file after everything that it imports."""
    for imported in file.dependencies:
        yield from _with_imports(imported)
    yield file


def main() -> int:
    TARGET.write_bytes(build())
    return 0


if __name__ == "__main__":
    sys.exit(main())
