"""Opens a client's channels at the first call, and closes them.

An asyncio channel belongs to the event loop in which it was opened, so `AsyncChannels` has one for each
loop. gRPC's threads do not survive a fork. gRPC restarts them for the blocking API. After its asyncio API
was used, a call in the child process ends the process, so both classes raise RuntimeError there instead.

Where gevent has replaced Python's threads, gRPC hangs without its support for gevent. `Channels` enables
that. gRPC has no such support for its asyncio API.
"""

import asyncio
import functools
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc

from togetherchat.v1.chat_service_pb2_grpc import ChatServiceStub
from togetherchat_client.channel import CallArguments, ChannelConfig, Option, without_health_checks
from togetherchat_client.health_gate import AsyncHealthGate, HealthGate

if TYPE_CHECKING:
    from togetherchat.v1.chat_service_pb2_grpc import ChatServiceAsyncStub

CLOSED: Final = "the client is closed; open another with {connect}()"
FORKED: Final = (
    "the process was forked after a call of an asyncio client, which gRPC does not support; make the first"
    " call after the fork, or start processes with the method spawn"
)
GEVENT: Final = (
    "gevent has replaced Python's threads, with which gRPC's asyncio API hangs; use connect() instead of"
    " connect_async()"
)
CLOSE_TIMEOUT_S: Final = 5.0
"""How long `close` waits for the event loop of another thread."""


class _Fork:
    """Whether this process was forked after a channel of gRPC's asyncio API was opened."""

    def __init__(self) -> None:
        self._opened = False
        self._unusable = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin_child)

    def check(self) -> None:
        """Raise RuntimeError if gRPC cannot be used in this process."""
        if self._unusable:
            raise RuntimeError(FORKED)

    def opening(self) -> None:
        """Note that a channel of the asyncio API is opened."""
        self._opened = True

    def _begin_child(self) -> None:
        self._unusable = self._opened


_FORK: Final = _Fork()


class AsyncChannels:
    """The channels of an `AsyncClient`: one for each event loop that made a call."""

    def __init__(self, config: ChannelConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._opened: dict[asyncio.AbstractEventLoop, _AsyncOpened] = {}
        self._closed = False

    async def stub(self, arguments: CallArguments) -> "ChatServiceAsyncStub":
        """Return the stub of a call, for the running loop.

        With health checking, waits for the first answer of the watch, and shortens the timeout in
        `arguments` by that time. Raises RuntimeError after `close`, or without a loop.
        """
        _FORK.check()
        loop = asyncio.get_running_loop()
        # Each loop reads and writes its own entry, so no lock is needed for an open channel.
        opened = self._opened.get(loop) or self._open(loop)
        if opened.unchecked is None or await opened.unchecked.gate.answered(arguments):
            return opened.stub
        return opened.unchecked.stub

    def open_for_check(self) -> grpc.aio.Channel:
        """Open a channel that also reaches a server which reports NOT_SERVING. The caller closes it."""
        _FORK.check()
        if self._closed:
            raise RuntimeError(CLOSED.format(connect="connect_async"))
        return _open_async(self._config, without_health_checks(self._config.options))

    async def close(self) -> None:
        """Close the channels of all loops."""
        with self._lock:
            self._closed = True
            opened, self._opened = self._opened, {}
        here = asyncio.get_running_loop()
        for loop, each in opened.items():
            if loop is here:
                await each.close()
            elif loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(each.close(), loop)
                await asyncio.wait([asyncio.wrap_future(closing)], timeout=CLOSE_TIMEOUT_S)
            # The channel of a loop that does not run closes when it is collected.

    def _open(self, loop: asyncio.AbstractEventLoop) -> "_AsyncOpened":
        with self._lock:
            if self._closed:
                raise RuntimeError(CLOSED.format(connect="connect_async"))
            # A channel closes when it is collected: those of ended loops are not needed any more.
            self._opened = {each: entry for each, entry in self._opened.items() if not each.is_closed()}
            channel = _open_async(self._config, self._config.options)
            unchecked = None
            if self._config.health_checking:
                plain = _open_async(self._config, without_health_checks(self._config.options))
                unchecked = _AsyncUnchecked(plain, ChatServiceStub(plain), AsyncHealthGate(channel))
            opened = self._opened[loop] = _AsyncOpened(channel, ChatServiceStub(channel), unchecked)
            return opened


class Channels:
    """The channel of a `Client`, for all threads of a process."""

    def __init__(self, config: ChannelConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._opened: _Opened | None = None
        self._closed = False

    def stub(self, arguments: CallArguments) -> ChatServiceStub:
        """Return the stub of a call, as `AsyncChannels.stub` does. Raises RuntimeError after `close`."""
        _FORK.check()
        opened = self._opened or self._open()
        if opened.unchecked is None or opened.unchecked.gate.answered(arguments):
            return opened.stub
        return opened.unchecked.stub

    def open_for_check(self) -> grpc.Channel:
        """Open a channel that also reaches a server which reports NOT_SERVING. The caller closes it."""
        _FORK.check()
        if self._closed:
            raise RuntimeError(CLOSED.format(connect="connect"))
        return _open_blocking(self._config, without_health_checks(self._config.options))

    def close(self) -> None:
        """Close the channel."""
        with self._lock:
            self._closed = True
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def _open(self) -> "_Opened":
        with self._lock:
            if self._closed:
                raise RuntimeError(CLOSED.format(connect="connect"))
            if self._opened is None:
                channel = _open_blocking(self._config, self._config.options)
                unchecked = None
                if self._config.health_checking:
                    plain = _open_blocking(self._config, without_health_checks(self._config.options))
                    unchecked = _Unchecked(plain, ChatServiceStub(plain), HealthGate(channel))
                self._opened = _Opened(channel, ChatServiceStub(channel), unchecked)
            return self._opened


@dataclass(frozen=True, slots=True)
class _AsyncUnchecked:
    """The channel for calls whose servers do not answer the health watch."""

    channel: grpc.aio.Channel
    stub: "ChatServiceAsyncStub"
    gate: AsyncHealthGate


@dataclass(frozen=True, slots=True)
class _AsyncOpened:
    """What is open in one event loop. Without health checking, `unchecked` is None."""

    channel: grpc.aio.Channel
    stub: "ChatServiceAsyncStub"
    unchecked: _AsyncUnchecked | None

    async def close(self) -> None:
        await self.channel.close()
        if self.unchecked is not None:
            await self.unchecked.channel.close()


@dataclass(frozen=True, slots=True)
class _Unchecked:
    """The same for the blocking API."""

    channel: grpc.Channel
    stub: ChatServiceStub
    gate: HealthGate


@dataclass(frozen=True, slots=True)
class _Opened:
    """What is open. Without health checking, `unchecked` is None."""

    channel: grpc.Channel
    stub: ChatServiceStub
    unchecked: _Unchecked | None

    def close(self) -> None:
        self.channel.close()
        if self.unchecked is not None:
            self.unchecked.channel.close()


def _open_async(config: ChannelConfig, options: Sequence[Option]) -> grpc.aio.Channel:
    if _gevent_replaced_threads():
        raise RuntimeError(GEVENT)
    _FORK.opening()
    credentials = config.credentials()
    if credentials is None:
        return grpc.aio.insecure_channel(config.target, options)
    return grpc.aio.secure_channel(config.target, credentials, options)


def _open_blocking(config: ChannelConfig, options: Sequence[Option]) -> grpc.Channel:
    if _gevent_replaced_threads():
        _support_gevent()
    credentials = config.credentials()
    if credentials is None:
        return grpc.insecure_channel(config.target, options)
    return grpc.secure_channel(config.target, credentials, options)


def _gevent_replaced_threads() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


@functools.cache
def _support_gevent() -> None:
    from grpc.experimental import gevent  # noqa: PLC0415  # pyright: ignore[reportMissingTypeStubs]  imports gevent

    gevent.init_gevent()
