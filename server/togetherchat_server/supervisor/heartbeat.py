"""The worker's end of the control socket: sends reports, and notices the supervisor's exit.

Reports are sent from the event loop that serves. A blocked loop sends none, and the supervisor
replaces the worker. Metrics are sent with each heartbeat and at the end. When the socket is full, a
report is dropped and metrics are kept for the next heartbeat. Knows neither what the process serves
nor how it stops.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Self, final

from togetherchat_server.supervisor.control import Assignment, Report, WorkerPhase


@final
class Heartbeat:
    """Sends a report every `heartbeat_s` and at every change of phase, while entered.

    `on_supervisor_exit` is called once if the supervisor exits. `drain_metrics` returns the packets
    of the metrics since its last call; it is called when all earlier packets are sent.
    """

    def __init__(
        self,
        assignment: Assignment,
        *,
        in_flight: Callable[[], int],
        on_supervisor_exit: Callable[[], None],
        drain_metrics: Callable[[], Iterable[bytes]] = tuple,
    ) -> None:
        self._socket = socket.socket(fileno=assignment.control_fd)
        self._heartbeat_s = assignment.heartbeat_s
        self._in_flight = in_flight
        self._on_supervisor_exit = on_supervisor_exit
        self._drain_metrics = drain_metrics
        self._unsent: deque[bytes] = deque()
        self._phase = WorkerPhase.STARTING
        self._address = ""
        self._failure = ""
        self._next: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._supervisor_exited)
        self._beat()
        return self

    def __exit__(self, *_: object) -> None:
        self._send_metrics()
        self._cancel()
        self._socket.close()

    def serving(self, address: str) -> None:
        """Report that the process serves at this address."""
        self._phase, self._address = WorkerPhase.SERVING, address
        self._send_report()

    def stopping(self) -> None:
        """Report that the process stops."""
        self._phase = WorkerPhase.STOPPING
        self._send_report()

    def failed(self, failure: str) -> None:
        """Report why the process cannot serve."""
        self._phase, self._failure = WorkerPhase.FAILED, failure
        self._send_report()

    def _beat(self) -> None:
        self._send_report()
        self._send_metrics()
        self._next = asyncio.get_running_loop().call_later(self._heartbeat_s, self._beat)

    def _send_report(self) -> None:
        report = Report(
            phase=self._phase, in_flight=self._in_flight(), address=self._address, failure=self._failure
        )
        try:
            self._socket.send(report.to_packet())
        except OSError:
            # Full: the next report replaces this one. Closed: the reader notices.
            return

    def _send_metrics(self) -> None:
        if not self._unsent:
            self._unsent.extend(self._drain_metrics())
        try:
            while self._unsent:
                self._socket.send(self._unsent[0])
                self._unsent.popleft()
        except OSError:
            return

    def _supervisor_exited(self) -> None:
        """Handle a readable socket. The supervisor sends nothing, so this is the end of file."""
        self._cancel()
        self._on_supervisor_exit()

    def _cancel(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        if self._next is not None:
            self._next.cancel()
