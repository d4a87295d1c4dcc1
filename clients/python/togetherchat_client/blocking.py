"""Protocols for gRPC's sync call objects, for which grpc publishes no types, and calls that agents replaced.

OpenTelemetry's instrumentation returns a generator in place of a streaming call
(opentelemetry-python-contrib#2014). The generator delegates to the call with `yield from`, so the call is
its `gi_yieldfrom` between two events.
"""

from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Generic, Protocol, TypeVar, cast

import grpc

ResponseT = TypeVar("ResponseT")

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


def as_call(call: "IteratorCall[ResponseT]") -> "IteratorCall[ResponseT]":
    """Return `call`, or for a generator in its place an object with the methods of a call."""
    return GeneratorCall(call) if isinstance(call, Generator) else call


def events_of(call: "IteratorCall[ResponseT]") -> Iterator[ResponseT]:
    """The events of `call`, with gRPC's own exception where an agent's wrapper failed while it handled that.

    New Relic's wrapper (14.1) deletes an attribute twice when another thread cancels the call.
    """
    try:
        yield from call
    except AttributeError as exc:
        if isinstance(exc.__context__, grpc.RpcError):
            raise exc.__context__ from None
        raise


class _CancelledError(grpc.RpcError):
    """The generator was closed before it had started the call."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.CANCELLED

    def details(self) -> str:
        return "the stream was cancelled"

    def trailing_metadata(self) -> tuple[()]:
        return ()

    def cancel(self) -> bool:
        return False


class GeneratorCall(Generic[ResponseT]):
    """A streaming call behind a generator. The call is known from the first event on.

    Until then, `cancel` from another thread takes effect with the first event: a generator that runs cannot
    be closed.
    """

    def __init__(self, events: Generator[ResponseT, None, None]) -> None:
        self._events = events
        self._call: BlockingCall | None = None
        self._cancelled = False

    def __iter__(self) -> Iterator[ResponseT]:
        return self

    def __next__(self) -> ResponseT:
        try:
            event = next(self._events)
        except grpc.RpcError as exc:
            # gRPC raises the call itself.
            self._call = cast("BlockingCall", exc)
            raise
        except StopIteration:
            if self._cancelled and self._call is None:
                self._call = error = _CancelledError()
                raise error from None
            raise
        if self._call is None:
            inner: object = getattr(self._events, "gi_yieldfrom", None)
            self._call = cast("BlockingCall", inner) if hasattr(inner, "cancel") else None
            if self._cancelled:
                self.cancel()
        return event

    def cancel(self) -> bool:
        self._cancelled = True
        if self._call is not None:
            self._call.cancel()
        with suppress(ValueError):
            self._events.close()
        return True

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.OK if self._call is None else self._call.code()

    def details(self) -> str:
        return "" if self._call is None else self._call.details()

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return () if self._call is None else self._call.trailing_metadata()
