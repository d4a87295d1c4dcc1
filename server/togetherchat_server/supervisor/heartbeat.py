"""The worker's end: says how it is, and notices when nobody listens any more.

Reports are sent by the loop that serves: a loop that does not turn sends none, and that is
what they are for. Figures go the same way at each heartbeat and at the end. A report that
finds the socket full is forgotten, figures are kept for the next time. Knows neither what is
served nor how it stops.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Self, final

from togetherchat_server.supervisor.control import Assignment, Report, WorkerPhase


@final
class Heartbeat:
    """Reports every `heartbeat_s` and at every change, while entered.

    `on_cut` is called once when the supervisor is gone, `take_figures` when the last ones are told.
    """

    def __init__(
        self,
        assignment: Assignment,
        *,
        in_flight: Callable[[], int],
        on_cut: Callable[[], None],
        take_figures: Callable[[], Iterable[bytes]] = tuple,
    ) -> None:
        self._socket = socket.socket(fileno=assignment.control)
        self._heartbeat_s = assignment.heartbeat_s
        self._in_flight = in_flight
        self._on_cut = on_cut
        self._take_figures = take_figures
        self._untold: deque[bytes] = deque()
        self._phase = WorkerPhase.STARTING
        self._address = ""
        self._failure = ""
        self._next: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._heard)
        self._beat()
        return self

    def __exit__(self, *_: object) -> None:
        self._tell_figures()
        self._silence()
        self._socket.close()

    def serving(self, address: str) -> None:
        self._phase, self._address = WorkerPhase.SERVING, address
        self._report()

    def stopping(self) -> None:
        self._phase = WorkerPhase.STOPPING
        self._report()

    def failed(self, text: str) -> None:
        self._phase, self._failure = WorkerPhase.FAILED, text
        self._report()

    def _beat(self) -> None:
        self._report()
        self._tell_figures()
        self._next = asyncio.get_running_loop().call_later(self._heartbeat_s, self._beat)

    def _report(self) -> None:
        report = Report(
            phase=self._phase, in_flight=self._in_flight(), address=self._address, failure=self._failure
        )
        try:
            self._socket.send(report.to_packet())
        except OSError:
            # Full (the supervisor is slow, the next report says it all) or cut, which is read.
            return

    def _tell_figures(self) -> None:
        if not self._untold:
            self._untold.extend(self._take_figures())
        try:
            while self._untold:
                self._socket.send(self._untold[0])
                self._untold.popleft()
        except OSError:
            return

    def _heard(self) -> None:
        """The supervisor never says a word: what can be read is the end."""
        self._silence()
        self._on_cut()

    def _silence(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        if self._next is not None:
            self._next.cancel()
