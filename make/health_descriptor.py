"""Writes the descriptor of grpc.health.v1, whose package ships no .proto file to generate types from."""

import sys

from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2

files = descriptor_pb2.FileDescriptorSet()
health_pb2.DESCRIPTOR.CopyToProto(files.file.add())
sys.stdout.buffer.write(files.SerializeToString())
