"""Bounds how long calls wait for the first answer of gRPC's health watch.

gRPC's core holds back every call until the watch of a server has its first answer, without a bound of its
own: a proxy that never answers would make each call wait for its whole deadline. With health checking, a
client therefore has two channels. Calls use the one with health checks, and wait for its first answer for
`WATCH_TIMEOUT_S`. After that they use the other one, without health checks, until the watch is answered.
"""

import asyncio
import threading
import time
from contextlib import suppress
from typing import Final

import grpc

from togetherchat_client.channel import CallArguments

WATCH_TIMEOUT_S: Final = 1.0
"""How long calls wait for the first answer of a watch."""
SHORTEST_TIMEOUT_S: Final = 0.001
"""What is left to a call whose whole timeout was spent on waiting."""
_UNANSWERED: Final = frozenset({grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING})


class _Waiting:
    """How long calls may still wait: since the first one that found no answer."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    def left_s(self, state: grpc.ChannelConnectivity) -> float | None:
        """Return the time left in a state of the channel; None if the watch is answered."""
        if state not in _UNANSWERED:
            self._since_s = None
            return None
        now_s = time.monotonic()
        if self._since_s is None:
            self._since_s = now_s
        return self._since_s + WATCH_TIMEOUT_S - now_s


class AsyncHealthGate:
    """Chooses the channel of each call of an asyncio client."""

    def __init__(self, checked: grpc.aio.Channel) -> None:
        self._checked = checked
        self._waiting = _Waiting()

    async def answered(self, arguments: CallArguments) -> bool:
        """Return whether to use the channel with health checks. Waiting shortens the call's timeout."""
        ends_s = time.monotonic() + arguments["timeout"]
        try:
            while True:
                state = self._checked.get_state(try_to_connect=True)
                left_s = self._waiting.left_s(state)
                if left_s is None:
                    return True
                left_s = min(left_s, ends_s - time.monotonic())
                if left_s <= 0:
                    return False
                with suppress(TimeoutError):
                    async with asyncio.timeout(left_s):
                        await self._checked.wait_for_state_change(state)
        finally:
            arguments["timeout"] = max(SHORTEST_TIMEOUT_S, ends_s - time.monotonic())


class HealthGate:
    """Chooses the channel of each call of a blocking client."""

    def __init__(self, checked: grpc.Channel) -> None:
        self._checked = checked
        self._waiting = _Waiting()
        self._changed = threading.Condition()
        self._state = grpc.ChannelConnectivity.IDLE
        checked.subscribe(self._on_change, try_to_connect=True)

    def answered(self, arguments: CallArguments) -> bool:
        """Return whether to use the channel with health checks. Waiting shortens the call's timeout."""
        ends_s = time.monotonic() + arguments["timeout"]
        try:
            with self._changed:
                while True:
                    if self._state is grpc.ChannelConnectivity.IDLE:
                        self._connect()
                    left_s = self._waiting.left_s(self._state)
                    if left_s is None:
                        return True
                    left_s = min(left_s, ends_s - time.monotonic())
                    if left_s <= 0:
                        return False
                    self._changed.wait(left_s)
        finally:
            arguments["timeout"] = max(SHORTEST_TIMEOUT_S, ends_s - time.monotonic())

    def _on_change(self, state: grpc.ChannelConnectivity) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()

    def _connect(self) -> None:
        # gRPC's blocking API connects an idle channel for a new subscriber only.
        self._checked.subscribe(_ignore, try_to_connect=True)
        self._checked.unsubscribe(_ignore)


def _ignore(state: grpc.ChannelConnectivity) -> None:
    """Stand for a subscriber."""
