"""Runs a process that serves: alone, as one of several workers, or as their sandbox.

Gives the app its environment. A signal, or the exit of the supervisor, stops the process. Knows the
process's assignment, not how the supervisor works.
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
from togetherchat_server.runtime.app import App, BoundAddresses, make_sandbox
from togetherchat_server.runtime.observability import Environment
from togetherchat_server.runtime.signals import StopSignals
from togetherchat_server.runtime.worker_share import WorkerShare
from togetherchat_server.supervisor.control import REPLACED_SIGNAL, Assignment, Role
from togetherchat_server.supervisor.heartbeat import Heartbeat
from togetherchat_server.supervisor.listener_shutdown import stop_listening
from togetherchat_server.telemetry.metrics.wire import to_packets

# After the supervisor's exit: how long a worker's calls may continue, when the sandbox stops,
# and when either process exits whatever it is doing.
ORPHAN_DRAIN_S: Final = 2.0
ORPHAN_SANDBOX_S: Final = 3.0
ORPHAN_EXIT_S: Final = 8
# From the last accepted connection to the GOAWAY, so that its first call is served, not rejected.
ACCEPT_SETTLE_S: Final = 0.2
GC_THRESHOLDS: Final = (10_000, 20, 50)
"""New objects, young collections and middle collections before the next one of each generation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessContext:
    """The configuration, and this process's signals, log and version."""

    configuration: Configuration
    signals: StopSignals
    log: TextIO
    version: str


async def serve_alone(context: ProcessContext, on_serving: Callable[[BoundAddresses], None]) -> str:
    """Serve until a signal arrives, then drain. Return the error if the start failed, else "".

    `on_serving` is called once, when the service accepts calls.
    """
    app = App(context.configuration, _environment(context))
    try:
        addresses = await app.start()
    except OSError as exc:
        return f"cannot serve: {exc}"
    _set_up_garbage_collection()
    on_serving(addresses)
    await _drain(app, context, await context.signals.first)
    return ""


async def serve_as_assigned(context: ProcessContext, assignment: Assignment) -> bool:
    """Serve until a signal arrives or the supervisor exits. Return false if the start failed."""
    serve = _serve_sandbox if assignment.role is Role.SANDBOX else _serve_worker
    return await serve(context, assignment)


async def _serve_worker(context: ProcessContext, assignment: Assignment) -> bool:
    share = WorkerShare(share_port=True, quota_store_fd=assignment.quota_store_fd)
    app = App(assignment.applied_to(context.configuration), _environment(context), share)

    def stop_soon() -> None:
        context.signals.stop()
        asyncio.get_running_loop().call_later(ORPHAN_DRAIN_S, context.signals.second.set)
        _set_exit_alarm()

    with Heartbeat(
        assignment,
        in_flight=lambda: app.in_flight,
        on_supervisor_exit=stop_soon,
        drain_metrics=lambda: to_packets(app.metrics.drain_deltas()),
    ) as heartbeat:
        try:
            addresses = await app.start()
        except OSError as exc:
            heartbeat.failed(f"cannot serve: {exc}")
            return False
        _set_up_garbage_collection()
        heartbeat.serving(addresses.grpc)
        number = await context.signals.first
        heartbeat.stopping()
        if number == REPLACED_SIGNAL:
            stop_listening(int(addresses.grpc.rpartition(":")[2]))
            if app.frontends.http is not None:
                app.frontends.http.stop_listening()
            await asyncio.sleep(ACCEPT_SETTLE_S)
        await _drain(app, context, number)
    return True


async def _serve_sandbox(context: ProcessContext, assignment: Assignment) -> bool:
    def stop_after_the_workers() -> None:
        asyncio.get_running_loop().call_later(ORPHAN_SANDBOX_S, context.signals.stop)
        _set_exit_alarm()

    port = int(assignment.grpc_listen.rpartition(":")[2])
    with Heartbeat(assignment, in_flight=lambda: 0, on_supervisor_exit=stop_after_the_workers) as heartbeat:
        try:
            async with make_sandbox(context.configuration.settings, port=port) as sandbox:
                heartbeat.serving(sandbox.base_url)
                await context.signals.first
        except OSError as exc:
            heartbeat.failed(f"cannot start the sandbox: {exc}")
            return False
    return True


async def _drain(app: App, context: ProcessContext, number: int) -> None:
    settings = context.configuration.settings
    await app.stop(
        drain_delay_s=settings.drain_delay_s if number == signal.SIGTERM else 0.0,
        stop_now=context.signals.second,
        replaced=number == REPLACED_SIGNAL,
    )


def _set_up_garbage_collection() -> None:
    """Make collections rare: each of them stops every call.

    Everything loaded at the start never becomes garbage and is excluded; scanning it took 40 ms and more.
    With a thousand streams a full collection takes 150 ms and by default follows every few seconds. A
    call leaves nothing of ours to collect, and five small objects of gRPC.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _set_exit_alarm() -> None:
    """End the process after `ORPHAN_EXIT_S`, whatever its state: the default action of SIGALRM."""
    signal.alarm(ORPHAN_EXIT_S)


def _environment(context: ProcessContext) -> Environment:
    return Environment(
        version=context.version,
        clock=time.monotonic,
        wall_clock=time.time,
        random=random.random,
        log=context.log,
    )
