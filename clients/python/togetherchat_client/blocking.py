"""The shapes of gRPC's blocking calls, which its published types keep to themselves."""

from collections.abc import Iterator
from typing import Protocol, TypeVar

import grpc

ResponseT_co = TypeVar("ResponseT_co", covariant=True)


class BlockingCall(Protocol):
    """A call that was begun. What it says of its end waits for the end."""

    def cancel(self) -> bool: ...
    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str: ...
    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]: ...


class FutureCall(BlockingCall, Protocol[ResponseT_co]):
    """A unary call that was begun."""

    def result(self) -> ResponseT_co: ...


class IteratorCall(BlockingCall, Protocol[ResponseT_co]):
    """A streaming call that was begun."""

    def __iter__(self) -> Iterator[ResponseT_co]: ...
