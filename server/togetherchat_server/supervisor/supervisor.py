"""Runs a fleet: feeds it reports, exits and signals, and performs its actions.

Imports neither gRPC nor anything that imports gRPC: see the package.
"""

import asyncio
import json
import logging
import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TextIO, assert_never, final

from togetherchat_server.config import Settings
from togetherchat_server.supervisor.actions import (
    Action,
    AnnounceServing,
    Exit,
    LogMessage,
    SendSignal,
    StartProcess,
)
from togetherchat_server.supervisor.control import Assignment, Role, WorkerPhase
from togetherchat_server.supervisor.fleet import Fleet, FleetLimits
from togetherchat_server.supervisor.fleet_metrics import FleetMetrics
from togetherchat_server.supervisor.port_reservation import PortReservation
from togetherchat_server.supervisor.worker_process import WorkerProcess, describe_start_error
from togetherchat_server.telemetry.admin import Admin, Page, Pages, pages
from togetherchat_server.telemetry.audit_log import AuditLog
from togetherchat_server.telemetry.log import LogHandler, attach, formatter
from togetherchat_server.telemetry.log_writer import LogWriter
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.definitions import Key
from togetherchat_server.telemetry.metrics.exposition import exposition
from togetherchat_server.telemetry.metrics.wire import Snapshot
from togetherchat_server.tenants.shared_quota_store import new_segment

# The supervisor checks its processes at this interval, and at once when something happens.
POLL_INTERVAL_S: Final = 0.1
# Heartbeats of a worker within the heartbeat timeout.
HEARTBEATS_PER_TIMEOUT: Final = 8
SANDBOX_LISTEN: Final = "127.0.0.1:0"
START_FAILED: Final = 1
WORKER_STATES: Final = ("waiting", *WorkerPhase, "killed")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetAddresses:
    """Addresses of the listeners (None: off), and the sandbox's base URL (empty without one)."""

    grpc: str
    http: str | None
    health: str | None
    admin: str | None
    sandbox_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorOptions:
    """The arguments of a supervisor.

    Every worker gets the same command-line `arguments` and `environment`. `on_serving` is called
    once, when the first worker serves.
    """

    settings: Settings
    workers: int
    arguments: Sequence[str]
    environment: Mapping[str, str]
    version: str
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    log: TextIO
    on_serving: Callable[[FleetAddresses], None]


@final
class Supervisor:
    """One run, from the start of the first worker to the exit of the last."""

    def __init__(self, options: SupervisorOptions) -> None:
        self._options = options
        settings = options.settings
        self._fleet = Fleet(
            workers=options.workers,
            sandbox=settings.sandbox,
            limits=FleetLimits(
                heartbeat_timeout_s=settings.worker_heartbeat_timeout_s,
                drain_delay_s=settings.drain_delay_s,
                drain_timeout_s=settings.drain_timeout_s,
            ),
            now=options.clock(),
        )
        self._metrics = FleetMetrics()
        self._started_s = options.wall_clock()
        self._processes: dict[int, WorkerProcess] = {}
        self._resources = AsyncExitStack()
        self._wakeup = asyncio.Event()
        self._grpc = ""
        self._http: str | None = None
        self._health: str | None = None
        self._admin: str | None = None
        self._quota_store_fd: int | None = None
        self._audit_log: AuditLog | None = None

    async def run(self) -> Exit:
        """Serve until a signal stops the fleet. Return how the run ended."""
        async with self._resources:
            self._open_log()
            try:
                self._open_audit_log()
                await self._bind_addresses()
                self._create_quota_store()
            except OSError as exc:
                return Exit(clean=False, problem=f"cannot serve: {exc}")
            self._handle_signals()
            while True:
                for action in self._fleet.next_actions(self._options.clock()):
                    if isinstance(action, Exit):
                        return action
                    self._perform(action)
                await self._wait()
                self._reap()

    async def _bind_addresses(self) -> None:
        settings = self._options.settings
        self._grpc = self._reserve(settings.grpc_listen)
        if settings.http_listen is not None:
            self._http = self._reserve(settings.http_listen)
        if settings.health_listen is not None:
            self._health = self._reserve(settings.health_listen)
        if settings.admin_listen is not None:
            admin = Admin(
                self._pages(),
                lambda accept: exposition(self._snapshot(), accept),
                hosts=settings.admin_hosts,
            )
            self._admin = await admin.start(settings.admin_listen)
            self._resources.push_async_callback(admin.close)

    async def _wait(self) -> None:
        """Wait until something happens, at most for the poll interval."""
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_INTERVAL_S):
                await self._wakeup.wait()
        self._wakeup.clear()

    def _perform(self, action: Action) -> None:
        match action:
            case StartProcess():
                self._start(action)
            case SendSignal():
                if action.worker.id in self._processes:
                    self._processes[action.worker.id].send_signal(action.number)
            case LogMessage():
                _log.log(logging.WARNING if action.warning else logging.INFO, "%s", action.text)
            case AnnounceServing():
                self._options.on_serving(
                    FleetAddresses(
                        grpc=self._grpc,
                        http=self._http,
                        health=self._health,
                        admin=self._admin,
                        sandbox_url=action.sandbox_url,
                    )
                )
            case Exit():
                pass
            case _:
                assert_never(action)

    def _start(self, start: StartProcess) -> None:
        worker = start.worker
        try:
            process = WorkerProcess(
                self._options.arguments,
                self._options.environment,
                lambda control_fd: self._assignment(start, control_fd),
                inherited_fds=() if self._quota_store_fd is None else (self._quota_store_fd,),
            )
        except OSError as exc:
            worker.failure = describe_start_error(exc)
            self._fleet.process_exited(worker.id, START_FAILED, self._options.clock())
            return
        worker.pid = process.pid
        self._processes[worker.id] = process
        asyncio.get_running_loop().add_reader(process.control, self._receive, worker.id, process)

    def _assignment(self, start: StartProcess, control_fd: int) -> Assignment:
        heartbeat_s = self._options.settings.worker_heartbeat_timeout_s / HEARTBEATS_PER_TIMEOUT
        if start.worker.role is Role.SANDBOX:
            # A restarted sandbox keeps its address, which the workers know.
            listen = start.sandbox_url.removeprefix("http://").removesuffix("/v1") or SANDBOX_LISTEN
            return Assignment(
                role=start.worker.role, control_fd=control_fd, heartbeat_s=heartbeat_s, grpc_listen=listen
            )
        return Assignment(
            role=start.worker.role,
            control_fd=control_fd,
            heartbeat_s=heartbeat_s,
            grpc_listen=self._grpc,
            http_listen=self._http,
            health_listen=self._health,
            sandbox_url=start.sandbox_url,
            quota_store_fd=self._quota_store_fd,
        )

    def _receive(self, worker_id: int, process: WorkerProcess) -> None:
        try:
            for message in process.messages():
                if isinstance(message, Snapshot):
                    self._metrics.add(worker_id, message)
                else:
                    self._fleet.report_received(worker_id, message, self._options.clock())
        except (EOFError, ConnectionError):
            asyncio.get_running_loop().remove_reader(process.control)
        self._wakeup.set()

    def _reap(self) -> None:
        """Record the processes that have exited, after their last messages."""
        for worker_id, process in list(self._processes.items()):
            code = process.exit_code()
            if code is not None:
                del self._processes[worker_id]
                self._receive(worker_id, process)
                process.close()
                self._metrics.remove_worker(worker_id)
                self._fleet.process_exited(worker_id, code, self._options.clock())

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()

        def stop(number: signal.Signals) -> None:
            self._fleet.stop(number)
            self._wakeup.set()

        def restart() -> None:
            self._fleet.start_rolling_restart()
            self._wakeup.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop, number)
        loop.add_signal_handler(signal.SIGHUP, restart)
        loop.add_signal_handler(signal.SIGCHLD, self._wakeup.set)

    def _reserve(self, address: str) -> str:
        reservation = PortReservation(address)
        self._resources.callback(reservation.close)
        return reservation.address

    def _create_quota_store(self) -> None:
        """Create the quota store that all workers share, if tenants have limits."""
        if self._options.settings.tenants_file:
            self._quota_store_fd = new_segment(workers=self._options.workers)
            self._resources.callback(os.close, self._quota_store_fd)

    def _open_log(self) -> None:
        stream = self._options.log
        terminal = stream.isatty()
        log_format = self._options.settings.log_format_on(terminal=terminal)
        writer = LogWriter(stream, formatter(log_format, terminal=terminal))
        self._resources.callback(writer.close)
        self._resources.callback(attach(LogHandler(writer)))

    def _open_audit_log(self) -> None:
        """Open the audit log, which has the accesses to the admin port. Raises OSError."""
        target = self._options.settings.audit_log
        if target is not None:
            self._audit_log = AuditLog(target)
            self._resources.callback(self._audit_log.close)

    def _snapshot(self) -> Snapshot:
        states = Counter(
            row["state"] for row in self._fleet.roster(self._options.clock()) if row["role"] == Role.WORKER
        )
        own: dict[Key, float] = {(names.WORKERS, state): states[state] for state in WORKER_STATES}
        own[names.READY,] = int(self._fleet.ready)
        own[names.PROCESS_START_TIME,] = self._started_s
        own_counts: dict[Key, float] = {(names.WORKER_RESTARTS,): self._fleet.restarts}
        if self._audit_log is not None:
            own_counts[names.AUDIT_LINES_DROPPED,] = self._audit_log.dropped
        return self._metrics.snapshot(own=own, own_counts=own_counts)

    def _pages(self) -> Pages:
        def alive() -> bool:
            return self._fleet.alive(self._options.clock())

        def workers() -> Page:
            body = json.dumps(
                {"supervisor": os.getpid(), "processes": self._fleet.roster(self._options.clock())}
            )
            return Page(status=HTTPStatus.OK, content_type="application/json", body=body.encode())

        common = pages(ready=lambda: self._fleet.ready, version=self._options.version, alive=alive)
        return {**common, "/workers": workers}
