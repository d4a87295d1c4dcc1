"""Protocols for gRPC's sync call objects, for which grpc publishes no types."""

from collections.abc import Iterator
from typing import Protocol, TypeVar

import grpc

ResponseT_co = TypeVar("ResponseT_co", covariant=True)


class BlockingCall(Protocol):
    """A started call. Its status methods block until the call has ended."""

    def cancel(self) -> bool: ...
    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str: ...
    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]: ...


class FutureCall(BlockingCall, Protocol[ResponseT_co]):
    """A started unary call."""

    def result(self) -> ResponseT_co: ...


class IteratorCall(BlockingCall, Protocol[ResponseT_co]):
    """A started streaming call."""

    def __iter__(self) -> Iterator[ResponseT_co]: ...
