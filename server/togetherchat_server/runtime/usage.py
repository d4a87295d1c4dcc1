"""Opens the usage ledger of one process, with its metrics."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from togetherchat_server.config import Settings
from togetherchat_server.runtime.observability import Environment
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.collector import MetricsCollector
from togetherchat_server.usage.settings_check import check_usage_packages

if TYPE_CHECKING:
    from togetherchat_server.usage.ledger import UsageLedger


def open_usage(
    settings: Settings,
    environment: Environment,
    *,
    in_flight: Callable[[], int],
    resources: AsyncExitStack,
    metrics: MetricsCollector,
) -> "UsageLedger | None":
    """Open the ledger; return None if it is off. `resources` closes it, and the caller starts it.

    Raises:
        SettingsError: the database or the folder cannot be used.
    """
    if settings.usage_database is None:
        return None
    check_usage_packages()
    # Imported on use: optional dependencies, which take 0.3 s to load.
    from togetherchat_server.usage.ledger import open_ledger  # noqa: PLC0415

    ledger = open_ledger(
        settings, clock=environment.clock, wall_clock=environment.wall_clock, in_flight=in_flight
    )
    resources.push_async_callback(ledger.aclose)
    writer = ledger.writer
    metrics.gauges[names.USAGE_LEDGER_UP,] = lambda: writer.available
    metrics.gauges[names.USAGE_LEDGER_LAG,] = writer.lag_s
    metrics.gauges[names.USAGE_LEDGER_SPILLED_ROWS,] = lambda: writer.spilled_rows
    metrics.counters[names.USAGE_LEDGER_ROWS,] = lambda: writer.written
    metrics.counters[names.USAGE_LEDGER_LOST_ROWS, "full"] = lambda: writer.full
    metrics.counters[names.USAGE_LEDGER_LOST_ROWS, "rejected"] = lambda: writer.rejected
    metrics.counters[names.USAGE_LEDGER_LOST_ROWS, "damaged"] = lambda: writer.damaged
    metrics.counters[names.USAGE_LEDGER_LOST_ROWS, "killed"] = lambda: writer.killed
    return ledger
