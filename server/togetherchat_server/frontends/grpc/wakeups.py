"""Reads gRPC's wake-ups in bulk: a fault of grpcio up to 1.85 that starves a busy server.

A thread of grpcio writes one byte to a socket pair for each event of gRPC's core (a call arrived, a
message was read, a write completed). The event loop reads one byte in each turn, and handles all events
that are there. So a busy loop leaves bytes behind: the next turns find nothing, and when two hundred
bytes are left, the thread blocks until most of them are read. Until then, over a hundred turns of the
loop, no call is accepted and no write completes. With a thousand streams that took up to two seconds.

grpcio reads in bulk itself after 1.85. It then adds no such reader, and this module does nothing.
"""

import asyncio
import functools
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Final

READER: Final = "_handle_events"
BYTES_MAX: Final = 4096
PEEK: Final = socket.MSG_PEEK | socket.MSG_DONTWAIT


@contextmanager
def bulk_wakeups(loop: asyncio.AbstractEventLoop) -> Generator[None]:
    """Let the reader of wake-ups that grpcio adds to the event loop in this context read in bulk."""
    add_reader = loop.add_reader

    def add(wakeups: object, callback: Callable[..., object], *args: object) -> None:
        if isinstance(wakeups, socket.socket) and _is_grpcios(callback):
            add_reader(wakeups, _read_all_but_one, wakeups, functools.partial(callback, *args))
        else:
            add_reader(wakeups, callback, *args)  # pyright: ignore[reportArgumentType]

    try:
        attributes = vars(loop)
    except TypeError:  # a loop that is not written in Python
        yield
        return
    attributes["add_reader"] = add
    try:
        yield
    finally:
        del attributes["add_reader"]


def _is_grpcios(callback: object) -> bool:
    return isinstance(callback, functools.partial) and getattr(callback.func, "__name__", "") == READER


def _read_all_but_one(wakeups: socket.socket, handle_events: Callable[[], object]) -> None:
    """Read all bytes but the one that `handle_events` reads."""
    with suppress(BlockingIOError):
        surplus = len(wakeups.recv(BYTES_MAX, PEEK)) - 1
        if surplus > 0:
            wakeups.recv(surplus, socket.MSG_DONTWAIT)
    handle_events()
