"""The roles of a process that serves: alone, as one of several workers, as their simulator.

Gives the app what is outside of it, and turns signals and the loss of a supervisor into a
stop. Knows what is assigned to it, not who supervises and how.
"""

import asyncio
import gc
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TextIO

from togetherchat_server.config import Configuration
from togetherchat_server.runtime.app import App, BoundAddresses, simulator
from togetherchat_server.runtime.observability import Environment
from togetherchat_server.runtime.signals import StopSignals
from togetherchat_server.runtime.wiring import WorkerShare
from togetherchat_server.supervisor.control import REPLACED, Assignment, Role
from togetherchat_server.supervisor.heartbeat import Heartbeat
from togetherchat_server.supervisor.listening import stop_listening
from togetherchat_server.telemetry.metrics.wire import to_packets

# How long calls may go on when the supervisor is gone, how long the simulator outlives them,
# and when such a process ends whatever it is doing.
ORPHAN_DRAIN_S: Final = 2.0
ORPHAN_SIMULATOR_S: Final = 3.0
ORPHAN_EXIT_S: Final = 8
# From the last connection accepted to the GOAWAY: its first call is served rather than refused.
SETTLE_S: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What a role is given: what was set, and this process's signals, log and version."""

    configuration: Configuration
    signals: StopSignals
    log: TextIO
    version: str


async def serve_alone(process: Process, greet: Callable[[BoundAddresses], None]) -> str:
    """Serve until a signal comes, then drain; the problem if it could not, else empty.

    `greet` is called once it serves.
    """
    app = App(process.configuration, _environment(process))
    try:
        addresses = await app.start()
    except OSError as exc:
        return f"cannot serve: {exc}"
    _leave_out_of_collections()
    greet(addresses)
    await _drain(app, process, await process.signals.first)
    return ""


async def serve_as_assigned(process: Process, assignment: Assignment) -> bool:
    """Serve until told to stop, or until the supervisor is gone; false if it could not."""
    simulate = assignment.role is Role.SANDBOX
    return await (_simulate if simulate else _work)(process, assignment)


async def _work(process: Process, assignment: Assignment) -> bool:
    shared = WorkerShare(port=True, tally=assignment.tally)
    app = App(assignment.applied_to(process.configuration), _environment(process), shared)

    def hurry_and_stop() -> None:
        process.signals.stop()
        asyncio.get_running_loop().call_later(ORPHAN_DRAIN_S, process.signals.second.set)
        _end_at_last()

    with Heartbeat(
        assignment,
        in_flight=lambda: app.in_flight,
        on_cut=hurry_and_stop,
        take_figures=lambda: to_packets(app.meters.take()),
    ) as heartbeat:
        try:
            addresses = await app.start()
        except OSError as exc:
            heartbeat.failed(f"cannot serve: {exc}")
            return False
        _leave_out_of_collections()
        heartbeat.serving(addresses.grpc)
        number = await process.signals.first
        heartbeat.stopping()
        if number == REPLACED:
            for address in filter(None, (addresses.grpc, addresses.http)):
                stop_listening(int(address.rpartition(":")[2]))
            await asyncio.sleep(SETTLE_S)
        await _drain(app, process, number)
    return True


async def _simulate(process: Process, assignment: Assignment) -> bool:
    def outlive_the_workers() -> None:
        asyncio.get_running_loop().call_later(ORPHAN_SIMULATOR_S, process.signals.stop)
        _end_at_last()

    port = int(assignment.grpc_listen.rpartition(":")[2])
    with Heartbeat(assignment, in_flight=lambda: 0, on_cut=outlive_the_workers) as heartbeat:
        try:
            async with simulator(process.configuration.settings, port=port) as sandbox:
                heartbeat.serving(sandbox.base_url)
                await process.signals.first
        except OSError as exc:
            heartbeat.failed(f"cannot simulate: {exc}")
            return False
    return True


async def _drain(app: App, process: Process, number: int) -> None:
    settings = process.configuration.settings
    drain_delay_s = settings.drain_delay_s if number == signal.SIGTERM else 0.0
    hurry, replaced = process.signals.second, number == REPLACED
    await app.stop(drain_delay_s=drain_delay_s, hurry=hurry, replaced=replaced)


def _leave_out_of_collections() -> None:
    """What was loaded at the start is passed over by every later collection of garbage.

    It never becomes garbage, and to look through it stopped every call for 40 ms and more.
    """
    gc.collect()
    gc.freeze()


def _end_at_last() -> None:
    """The alarm's default is to end the process, whatever state it is in."""
    signal.alarm(ORPHAN_EXIT_S)


def _environment(process: Process) -> Environment:
    return Environment(
        version=process.version,
        clock=time.monotonic,
        wall_clock=time.time,
        random=random.random,
        log=process.log,
    )
