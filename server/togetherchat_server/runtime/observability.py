"""Opens the log, metrics, traces, the console's live metrics and the admin port of one process.

Owns the process's gauges and counters, to which every other part adds its own. Knows calls only
by their records.
"""

import logging
import socket
from collections.abc import Callable, Container
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, TextIO, final

from togetherchat_server.config import Configuration
from togetherchat_server.telemetry.admin import Admin, pages
from togetherchat_server.telemetry.audit_log import AuditLog, CredentialAudit
from togetherchat_server.telemetry.call_record import Sink, Spans
from togetherchat_server.telemetry.log import CallLog, LogHandler, attach, formatter
from togetherchat_server.telemetry.log_writer import LogWriter
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.collector import MetricsCollector, ProcessInfo
from togetherchat_server.telemetry.semconv import ListenerAttributes

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The environment that the process gives to the app: clocks, randomness, and a stream for the log."""

    version: str
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    random: Callable[[], float]
    log: TextIO


@final
class Observability:
    """The telemetry of one process. Closing `resources` closes everything that it opens."""

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
        info = ProcessInfo(
            version=environment.version,
            max_concurrent_calls=self._settings.max_concurrent_calls,
            wall_clock=environment.wall_clock,
        )
        self.metrics: Final = MetricsCollector(info, ready=ready)
        self.gauges: Final = self.metrics.gauges

    def open_log(self) -> Sink:
        """Start the log; return the sink that writes a line per call."""
        stream = self._environment.log
        terminal = stream.isatty()
        log_format = self._settings.log_format_on(terminal=terminal)
        writer = LogWriter(stream, formatter(log_format, terminal=terminal))
        self.metrics.counters[names.LOG_LINES_DROPPED,] = lambda: writer.dropped
        self._resources.callback(writer.close)
        self._resources.callback(attach(LogHandler(writer)))
        self._log_certificate()
        return CallLog(writer)

    def open_audit_log(self) -> None:
        """Start the audit log, if there is one. Raises OSError."""
        if self._settings.audit_log is None:
            return
        audit_log = AuditLog(self._settings.audit_log)
        self.metrics.counters[names.AUDIT_LINES_DROPPED,] = lambda: audit_log.dropped
        self._resources.callback(audit_log.close)

    def sinks(self, log: Sink, *, models: Container[str]) -> tuple[Sink, ...]:
        """Return the sinks of call records. Only `models` appear by name in metrics."""
        audit = () if self._settings.audit_log is None else (CredentialAudit(),)
        return (log, self.metrics.sink(models=models), *audit)

    def open_spans(self, base_url: str) -> Spans | None:
        """Return what makes the spans of calls; None without `--traces`."""
        if self._settings.traces is None:
            return None
        # Imported only if used: an optional dependency, which takes a third of a second to load.
        from togetherchat_server.telemetry.tracing import open_spans  # noqa: PLC0415

        settings, environment = self._settings, self._environment
        spans = open_spans(
            base_url=base_url,
            listeners=ListenerAttributes.of(
                grpc=settings.grpc_listen,
                http=settings.http_listen,
                tls=self._configuration.certificates is not None,
                hostname=socket.gethostname(),
            ),
            version=environment.version,
            clock=environment.clock,
            wall_clock=environment.wall_clock,
        )
        if spans is not None:
            self.metrics.counters.update(spans.counters)
            self._resources.push_async_callback(spans.aclose)
        return spans

    def console_stats(self) -> Callable[[], dict[str, object]] | None:
        """Return the function that computes the console's live metrics; None without `--console`."""
        if not self._settings.console:
            return None
        window = self.metrics.open_live_window(clock=self._environment.clock)

        def current() -> dict[str, object]:
            return window.summary() | {
                "in_flight": self.gauges[names.CALLS_IN_FLIGHT,](),
                "queued": self.gauges[names.CALLS_QUEUED,](),
                "version": self._environment.version,
                # With several workers, the metrics are those of this worker only.
                "workers": self._settings.workers,
            }

        return current

    def start(self) -> None:
        """Start the timers of the metrics on the running event loop."""
        self.metrics.start()
        self._resources.callback(self.metrics.stop)

    async def open_admin(self) -> str | None:
        """Serve the admin port; return its address, or None if it is off. Raises OSError."""
        if self._settings.admin_listen is None:
            return None
        # Imported only if used: a worker's metrics are exported by its supervisor.
        from togetherchat_server.telemetry.metrics.exposition import exposition  # noqa: PLC0415

        admin = Admin(
            pages(ready=self._ready, version=self._environment.version),
            lambda accept: exposition(self.metrics.snapshot(), accept),
            hosts=self._settings.admin_hosts,
        )
        address = await admin.start(self._settings.admin_listen)
        self._resources.push_async_callback(admin.close)
        return address

    def _log_certificate(self) -> None:
        """Log which certificate is served and until when, and export its expiry."""
        certificates = self._configuration.certificates
        if certificates is None:
            return
        info, now_s = certificates.current().info, self._environment.wall_clock()
        _log.info("TLS certificate: %s", info)
        if not info.not_before_s <= now_s < info.not_after_s:
            _log.warning("the TLS certificate is not valid now: clients will reject it")
        self.gauges[names.FILE_STALE, "tls-cert-file"] = certificates.stale
        self.gauges[names.TLS_CERTIFICATE_NOT_AFTER,] = lambda: certificates.current().info.not_after_s
