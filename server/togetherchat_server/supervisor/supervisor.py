"""Runs a fleet: feeds it with what happens, does what it decides. Thin, and all of it waits.

Imports neither gRPC nor anything that does: see the package.
"""

import asyncio
import json
import logging
import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TextIO, assert_never, final

from togetherchat_server.config import Settings
from togetherchat_server.supervisor.actions import Action, Announce, Exit, LogMessage, Send, Start
from togetherchat_server.supervisor.control import Assignment, Role, WorkerPhase
from togetherchat_server.supervisor.fleet import Fleet, FleetLimits
from togetherchat_server.supervisor.fleet_metrics import FleetMetrics
from togetherchat_server.supervisor.port_reservation import PortReservation
from togetherchat_server.supervisor.worker_process import WorkerProcess, cannot_start
from togetherchat_server.telemetry.admin import Admin, Page, Pages, pages
from togetherchat_server.telemetry.log import LogHandler, attach, logger_of
from togetherchat_server.telemetry.log_writer import LogWriter
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.exposition import exposition
from togetherchat_server.telemetry.metrics.store import Key
from togetherchat_server.telemetry.metrics.wire import Snapshot
from togetherchat_server.tenants.shared_quota_store import new_segment

# The supervisor looks around so often, and at once when something happens.
TICK_S: Final = 0.1
# A worker reports so many times within what is taken for silence.
REPORTS_IN_SILENCE: Final = 8
SANDBOX_LISTEN: Final = "127.0.0.1:0"
SPAWN_FAILED: Final = 1
WORKER_STATES: Final = ("waiting", *WorkerPhase, "killed")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetAddresses:
    """Where the workers and the supervisor are reached, None where they are not; and the address
    of the simulator, empty without.
    """

    grpc: str
    http: str | None
    health: str | None
    admin: str | None
    simulator: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorOptions:
    """What the process hands in: the command line and environment that every worker gets as they
    are, and the world environment. `greet` is told where everything is once the first worker serves.
    """

    settings: Settings
    workers: int
    words: Sequence[str]
    environment: Mapping[str, str]
    version: str
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    log: TextIO
    greet: Callable[[FleetAddresses], None]


@final
class Supervisor:
    """One run, from the first worker's start to the last one's end."""

    def __init__(self, job: SupervisorOptions) -> None:
        self._job = job
        settings = job.settings
        self._fleet = Fleet(
            workers=job.workers,
            sandbox=settings.sandbox,
            limits=FleetLimits(
                heartbeat_timeout_s=settings.worker_heartbeat_timeout_s,
                drain_delay_s=settings.drain_delay_s,
                drain_timeout_s=settings.drain_timeout_s,
            ),
            now=job.clock(),
        )
        self._figures = FleetMetrics()
        self._started_s = job.wall_clock()
        self._processes: dict[int, WorkerProcess] = {}
        self._resources = AsyncExitStack()
        self._happened = asyncio.Event()
        self._grpc = ""
        self._http: str | None = None
        self._health: str | None = None
        self._admin: str | None = None
        self._tally: int | None = None

    async def run(self) -> Exit:
        """Serve until told to stop."""
        async with self._resources:
            self._open_log()
            try:
                await self._take_addresses()
                self._open_tally()
            except OSError as exc:
                return Exit(clean=False, problem=f"cannot serve: {exc}")
            self._hear_signals()
            while True:
                for action in self._fleet.decide(self._job.clock()):
                    if isinstance(action, Exit):
                        return action
                    self._do(action)
                await self._something()

    async def _take_addresses(self) -> None:
        settings = self._job.settings
        self._grpc = self._reserve(settings.grpc_listen)
        if settings.http_listen is not None:
            self._http = self._reserve(settings.http_listen)
        if settings.health_listen is not None:
            self._health = self._reserve(settings.health_listen)
        if settings.admin_listen is not None:
            admin = Admin(self._pages(), lambda accept: exposition(self._figures_now(), accept))
            self._admin = await admin.start(settings.admin_listen)
            self._resources.push_async_callback(admin.close)

    async def _something(self) -> None:
        try:
            async with asyncio.timeout(TICK_S):
                await self._happened.wait()
        except TimeoutError:
            pass
        self._happened.clear()
        self._reap()

    def _do(self, action: Action) -> None:
        match action:
            case Start():
                self._start(action)
            case Send():
                if action.worker.id in self._processes:
                    self._processes[action.worker.id].send(action.number)
            case LogMessage():
                _log.log(logging.WARNING if action.grave else logging.INFO, "%s", action.text)
            case Announce():
                self._job.greet(
                    FleetAddresses(
                        grpc=self._grpc,
                        http=self._http,
                        health=self._health,
                        admin=self._admin,
                        simulator=action.simulator,
                    )
                )
            case Exit():
                pass
            case _:
                assert_never(action)

    def _start(self, start: Start) -> None:
        worker = start.worker
        try:
            process = WorkerProcess(
                self._job.words,
                self._job.environment,
                lambda control: self._assignment(start, control),
                handed=() if self._tally is None else (self._tally,),
            )
        except OSError as exc:
            worker.failure = cannot_start(exc)
            self._fleet.gone(worker.id, SPAWN_FAILED, self._job.clock())
            return
        worker.pid = process.pid
        self._processes[worker.id] = process
        asyncio.get_running_loop().add_reader(process.control, self._hear, worker.id, process)

    def _assignment(self, start: Start, control: int) -> Assignment:
        heartbeat_s = self._job.settings.worker_heartbeat_timeout_s / REPORTS_IN_SILENCE
        if start.worker.role is Role.SANDBOX:
            listen = start.simulator.removeprefix("http://").removesuffix("/v1") or SANDBOX_LISTEN
            return Assignment(
                role=start.worker.role, control=control, heartbeat_s=heartbeat_s, grpc_listen=listen
            )
        return Assignment(
            role=start.worker.role,
            control=control,
            heartbeat_s=heartbeat_s,
            grpc_listen=self._grpc,
            http_listen=self._http,
            health_listen=self._health,
            simulator=start.simulator,
            tally=self._tally,
        )

    def _hear(self, worker_id: int, process: WorkerProcess) -> None:
        try:
            for message in process.reports():
                if isinstance(message, Snapshot):
                    self._figures.heard(worker_id, message)
                else:
                    self._fleet.heard(worker_id, message, self._job.clock())
        except (EOFError, ConnectionError):
            asyncio.get_running_loop().remove_reader(process.control)
        self._happened.set()

    def _reap(self) -> None:
        """Tell the fleet who has ended, with its last words heard first."""
        for worker_id, process in list(self._processes.items()):
            code = process.exit_code()
            if code is not None:
                del self._processes[worker_id]
                self._hear(worker_id, process)
                process.close()
                self._figures.gone(worker_id)
                self._fleet.gone(worker_id, code, self._job.clock())

    def _hear_signals(self) -> None:
        loop = asyncio.get_running_loop()

        def stop(number: signal.Signals) -> None:
            self._fleet.stop(number)
            self._happened.set()

        def roll() -> None:
            self._fleet.roll()
            self._happened.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop, number)
        loop.add_signal_handler(signal.SIGHUP, roll)
        loop.add_signal_handler(signal.SIGCHLD, self._happened.set)

    def _reserve(self, address: str) -> str:
        reservation = PortReservation(address)
        self._resources.callback(reservation.close)
        return reservation.address

    def _open_tally(self) -> None:
        """What tenants have in use, where they have limits, for all workers together."""
        if self._job.settings.tenants_file:
            self._tally = new_segment(workers=self._job.workers)
            self._resources.callback(os.close, self._tally)

    def _open_log(self) -> None:
        writer = LogWriter(self._job.log)
        self._resources.callback(writer.close)
        self._resources.callback(attach(LogHandler(logger_of(writer, self._job.settings.log_format))))

    def _figures_now(self) -> Snapshot:
        states = Counter(
            row["state"] for row in self._fleet.roster(self._job.clock()) if row["role"] == Role.WORKER
        )
        own: dict[Key, float] = {(names.WORKERS, state): states[state] for state in WORKER_STATES}
        own[names.READY,] = int(self._fleet.ready)
        own[names.STARTED,] = self._started_s
        return self._figures.figures(own=own, restarts=self._fleet.restarts)

    def _pages(self) -> Pages:
        def alive() -> bool:
            return self._fleet.alive(self._job.clock())

        def workers() -> Page:
            body = json.dumps({"supervisor": os.getpid(), "processes": self._fleet.roster(self._job.clock())})
            return Page(status=HTTPStatus.OK, content_type="application/json", body=body.encode())

        usual = pages(ready=lambda: self._fleet.ready, version=self._job.version, alive=alive)
        return {**usual, "/workers": workers}
