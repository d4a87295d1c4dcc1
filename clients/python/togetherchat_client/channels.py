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
from typing import TYPE_CHECKING, Final, NamedTuple

import grpc

from togetherchat.v1.chat_service_pb2_grpc import ChatServiceStub
from togetherchat.v1.usage_service_pb2_grpc import UsageServiceStub
from togetherchat_client.channel import CallArguments, ChannelConfig, Option, without_health_checks
from togetherchat_client.health_gate import AsyncHealthGate, HealthGate

if TYPE_CHECKING:
    from togetherchat.v1.chat_service_pb2_grpc import ChatServiceAsyncStub
    from togetherchat.v1.usage_service_pb2_grpc import UsageServiceAsyncStub

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


class AsyncOpened(NamedTuple):
    """An open channel, and the stubs of the services on it."""

    channel: grpc.aio.Channel
    chat: "ChatServiceAsyncStub"
    usage: "UsageServiceAsyncStub"


class Opened(NamedTuple):
    """As `AsyncOpened`, for a blocking client."""

    channel: grpc.Channel
    chat: ChatServiceStub
    usage: UsageServiceStub


class AsyncChannels:
    """The channels of an `AsyncClient`: one for each event loop that made a call."""

    def __init__(self, config: ChannelConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._opened: dict[asyncio.AbstractEventLoop, _AsyncEntry] = {}
        self._closed = False

    async def opened(self, arguments: CallArguments) -> AsyncOpened:
        """Return the channel of a call, for the running loop.

        With health checking, waits for the first answer of the watch, and shortens the timeout in
        `arguments` by that time. Raises RuntimeError after `close`, or without a loop.
        """
        _FORK.check()
        loop = asyncio.get_running_loop()
        # Each loop reads and writes its own entry, so no lock is needed for an open channel.
        entry = self._opened.get(loop) or self._open(loop)
        if entry.unchecked is None or await entry.gate.answered(arguments):
            return entry.opened
        return entry.unchecked

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
        for loop, entry in opened.items():
            if loop is here:
                await entry.close()
            elif loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(entry.close(), loop)
                await asyncio.wait([asyncio.wrap_future(closing)], timeout=CLOSE_TIMEOUT_S)
            # The channel of a loop that does not run closes when it is collected.

    def _open(self, loop: asyncio.AbstractEventLoop) -> "_AsyncEntry":
        with self._lock:
            if self._closed:
                raise RuntimeError(CLOSED.format(connect="connect_async"))
            # A channel closes when it is collected: those of ended loops are not needed any more.
            self._opened = {each: entry for each, entry in self._opened.items() if not each.is_closed()}
            checked = self._opened_with(self._config.options)
            unchecked = None
            if self._config.health_checking:
                unchecked = self._opened_with(without_health_checks(self._config.options))
            entry = self._opened[loop] = _AsyncEntry(checked, unchecked, AsyncHealthGate(checked.channel))
            return entry

    def _opened_with(self, options: Sequence[Option]) -> AsyncOpened:
        channel = _open_async(self._config, options)
        return AsyncOpened(channel, ChatServiceStub(channel), UsageServiceStub(channel))


class Channels:
    """The channel of a `Client`, for all threads of a process."""

    def __init__(self, config: ChannelConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._opened: _BlockingEntry | None = None
        self._closed = False

    def opened(self, arguments: CallArguments) -> Opened:
        """Return the channel of a call, as `AsyncChannels.opened` does. Raises RuntimeError after `close`."""
        _FORK.check()
        entry = self._opened or self._open()
        if entry.unchecked is None or entry.gate is None or entry.gate.answered(arguments):
            return entry.opened
        return entry.unchecked

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

    def _open(self) -> "_BlockingEntry":
        with self._lock:
            if self._closed:
                raise RuntimeError(CLOSED.format(connect="connect"))
            if self._opened is None:
                checked, unchecked, gate = self._opened_with(self._config.options), None, None
                if self._config.health_checking:
                    unchecked = self._opened_with(without_health_checks(self._config.options))
                    gate = HealthGate(checked.channel)
                self._opened = _BlockingEntry(checked, unchecked, gate)
            return self._opened

    def _opened_with(self, options: Sequence[Option]) -> Opened:
        channel = _open_blocking(self._config, options)
        return Opened(channel, ChatServiceStub(channel), UsageServiceStub(channel))


class _AsyncEntry(NamedTuple):
    """What is open in one event loop."""

    opened: AsyncOpened
    unchecked: AsyncOpened | None
    """The channel for calls whose servers do not answer the health watch; None without health checking."""
    gate: AsyncHealthGate

    async def close(self) -> None:
        await self.opened.channel.close()
        if self.unchecked is not None:
            await self.unchecked.channel.close()


class _BlockingEntry(NamedTuple):
    """As `_AsyncEntry`, for a blocking client."""

    opened: Opened
    unchecked: Opened | None
    gate: HealthGate | None
    """None without health checking: the gate watches its channel from the beginning."""

    def close(self) -> None:
        self.opened.channel.close()
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
