"""What watches the service: the log, the metrics, the console's figures, spans, the admin port.

Owns the gauges of one process, which every other part adds its own to. Knows no call but by its
record.
"""

import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Container
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TextIO, final

from togetherchat_server.config import Configuration
from togetherchat_server.telemetry.admin import Admin, pages
from togetherchat_server.telemetry.call_record import Sink, Spans
from togetherchat_server.telemetry.dashboard import LiveFigures
from togetherchat_server.telemetry.log import CallLog, LogHandler, attach, logger_of
from togetherchat_server.telemetry.log_writer import LogWriter
from togetherchat_server.telemetry.metrics.collector import MetricsCollector, ProcessInfo
from togetherchat_server.telemetry.provider_limits import ProviderRateLimits
from togetherchat_server.telemetry.semconv import ListenerAttributes

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the process gives to the app: time, chance, and a place for the log."""

    version: str
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    random: Callable[[], float]
    log: TextIO


@final
class Observability:
    """Those of one process. What they open is closed with `resources`."""

    def __init__(
        self,
        configuration: Configuration,
        environment: Environment,
        resources: AsyncExitStack,
        *,
        ready: Callable[[], bool],
    ) -> None:
        self._configuration = configuration
        self._settings = configuration.settings
        self._environment = environment
        self._resources = resources
        self._ready = ready
        self._figures = LiveFigures(clock=environment.clock) if self._settings.console else None
        self.gauges: dict[str, Callable[[], int]] = {
            "tasks": lambda: len(asyncio.all_tasks()),
            "memory_blocks": sys.getallocatedblocks,
        }
        facts = ProcessInfo(
            version=environment.version,
            max_concurrent_calls=self._settings.max_concurrent_calls,
            wall_clock=environment.wall_clock,
        )
        self.meters = MetricsCollector(self.gauges, facts=facts, ready=ready)

    def open_log(self) -> Sink:
        """Write lines from here on, of calls and of what happens beside them."""
        writer = LogWriter(self._environment.log)
        self.gauges["log_lines_dropped"] = lambda: writer.dropped
        self._resources.callback(writer.close)
        logger = logger_of(writer, self._settings.log_format)
        self._resources.callback(attach(LogHandler(logger)))
        self._show_certificate()
        return CallLog(logger)

    def sinks(self, log: Sink, *, models: Container[str]) -> tuple[Sink, ...]:
        """What hears of every ended call. Metrics name `models`, and no others."""
        limits = ProviderRateLimits(self.gauges, clock=self._environment.clock)
        figures = () if self._figures is None else (self._figures,)
        return (log, limits, self.meters.sink(models=models), *figures)

    def open_spans(self, base_url: str) -> Spans | None:
        """What makes spans of calls; None where nobody wants them."""
        if self._settings.traces is None:
            return None
        # Loaded where it is wanted: it is an extra, and takes a third of a second.
        from togetherchat_server.telemetry.tracing import open_spans  # noqa: PLC0415

        settings, environment = self._settings, self._environment
        spans = open_spans(
            base_url=base_url,
            doors=ListenerAttributes.of(
                grpc=settings.grpc_listen,
                http=settings.http_listen,
                tls=self._configuration.certificates is not None,
                machine=socket.gethostname(),
            ),
            version=environment.version,
            clock=environment.clock,
            wall_clock=environment.wall_clock,
        )
        if spans is not None:
            self.gauges |= spans.gauges
            self._resources.push_async_callback(spans.aclose)
        return spans

    def snapshot(self) -> Callable[[], dict[str, object]] | None:
        """What the console shows of this process; None where there is no console."""
        figures = self._figures
        if figures is None:
            return None

        def taken() -> dict[str, object]:
            now = {
                "in_flight": self.gauges["calls_in_flight"](),
                "waiting": self.gauges["calls_waiting"](),
                "version": self._environment.version,
                # What others count is not in it, where there are others.
                "workers": self._settings.workers,
            }
            return figures.snapshot() | now

        return taken

    def start(self) -> None:
        """Watch the loop."""
        self.meters.start()
        self._resources.callback(self.meters.stop)

    async def open_admin(self) -> str | None:
        """Serve the admin port; its address, None where it is off. Raises OSError."""
        if self._settings.admin_listen is None:
            return None
        # Loaded where it is wanted: a worker, whose supervisor is scraped, does without.
        from togetherchat_server.telemetry.metrics.exposition import exposition  # noqa: PLC0415

        admin = Admin(
            pages(ready=self._ready, version=self._environment.version, gauges=self.gauges),
            lambda accept: exposition(self.meters.figures(), accept),
        )
        address = await admin.start(self._settings.admin_listen)
        self._resources.push_async_callback(admin.close)
        return address

    def _show_certificate(self) -> None:
        """Say which certificate is served, and until when, at the start and on `/vars`."""
        certificates, wall_clock = self._configuration.certificates, self._environment.wall_clock
        if certificates is None:
            return
        facts, now_s = certificates.current().facts, wall_clock()
        _log.info("TLS certificate: %s", facts)
        if not facts.not_before_s <= now_s < facts.not_after_s:
            _log.warning("callers will refuse the TLS certificate: it is valid at another time")
        self.gauges["tls_certificate_expires_s"] = lambda: round(
            certificates.current().facts.not_after_s - wall_clock()
        )
