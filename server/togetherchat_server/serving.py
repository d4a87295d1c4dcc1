"""The roles of a process that serves: alone, as one of several workers, as their simulator.

Gives the app what is outside of it (time, chance, standard error), and turns signals and the
loss of a supervisor into a stop. Knows what is assigned to it, not who supervises and how.
"""

import asyncio
import random
import signal
import sys
import time
from collections.abc import Callable
from typing import Final, final

from togetherchat_server.app import Addresses, App, Outside, simulator
from togetherchat_server.config import Configuration
from togetherchat_server.supervisor.control import Assignment, Role
from togetherchat_server.supervisor.leash import Leash

# How long calls may go on when the supervisor is gone, how long the simulator outlives them,
# and when such a process ends whatever it is doing.
ORPHAN_DRAIN_S: Final = 2.0
ORPHAN_SIMULATOR_S: Final = 3.0
ORPHAN_EXIT_S: Final = 8


async def serve_alone(configuration: Configuration, version: str, greet: Callable[[Addresses], None]) -> None:
    """Serve until a signal comes, then drain. `greet` is called once it serves.

    Raises:
        OSError, RuntimeError: an address cannot be bound.
    """
    wish = _Wish()
    app = App(configuration, _outside(version))
    greet(await app.start())
    await _drain(app, configuration, await wish.first, wish)


async def serve_as_assigned(configuration: Configuration, assignment: Assignment, version: str) -> bool:
    """Serve until told to stop, or until the supervisor is gone; false if it never could."""
    if assignment.role is Role.SANDBOX:
        return await _simulate(configuration, assignment)
    return await _work(assignment.applied_to(configuration), assignment, version)


async def _work(configuration: Configuration, assignment: Assignment, version: str) -> bool:
    wish = _Wish()
    app = App(configuration, _outside(version), share_port=True)
    with Leash(assignment, in_flight=lambda: app.calls_in_flight, on_cut=wish.lose_supervisor) as leash:
        try:
            addresses = await app.start()
        except (OSError, RuntimeError) as exc:
            leash.failed(f"cannot serve: {exc}")
            return False
        leash.serving(addresses.rpc)
        number = await wish.first
        leash.stopping()
        await _drain(app, configuration, number, wish)
    return True


async def _simulate(configuration: Configuration, assignment: Assignment) -> bool:
    wish = _Wish()

    def outlive_the_workers() -> None:
        asyncio.get_running_loop().call_later(ORPHAN_SIMULATOR_S, wish.lose_supervisor)

    port = int(assignment.listen.rpartition(":")[2])
    with Leash(assignment, in_flight=lambda: 0, on_cut=outlive_the_workers) as leash:
        try:
            async with simulator(configuration.settings, port=port) as sandbox:
                leash.serving(sandbox.base_url)
                await wish.first
        except OSError as exc:
            leash.failed(f"cannot simulate: {exc}")
            return False
    return True


async def _drain(app: App, configuration: Configuration, number: int, wish: "_Wish") -> None:
    propagation_s = configuration.settings.propagation_s if number == signal.SIGTERM else 0.0
    await app.stop(propagation_s=propagation_s, hurry=wish.second)


@final
class _Wish:
    """Whether this process was asked to stop, by which signal, and whether it was asked again."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.first: Final[asyncio.Future[int]] = loop.create_future()
        self.second: Final = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ask, number)

    def _ask(self, number: int) -> None:
        if self.first.done():
            self.second.set()
        else:
            self.first.set_result(number)

    def lose_supervisor(self) -> None:
        """Stop soon. The alarm's default is to end the process, whatever state it is in."""
        if not self.first.done():
            self.first.set_result(signal.SIGINT)
        asyncio.get_running_loop().call_later(ORPHAN_DRAIN_S, self.second.set)
        signal.alarm(ORPHAN_EXIT_S)


def _outside(version: str) -> Outside:
    return Outside(
        version=version,
        clock=time.monotonic,
        wall_clock=time.time,
        random=random.random,
        log=sys.stderr,
    )
