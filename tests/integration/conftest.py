"""Loads gRPC as the server does, for the tests that run the server in their own process."""

import os

from togetherchat_server.frontends.grpc import environment as grpc_environment

grpc_environment.set_defaults(os.environ)
