"""What the server process holds while no call runs: as Linux shows it, and by its own metrics."""

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from soak.service import Service
from togetherchat_server.telemetry.metrics import definitions as names

IDLE_TIMEOUT_S: Final = 5.0
ACTIVE_CONNECTIONS: Final = f"{names.UPSTREAM_CONNECTIONS} active"
IDLE_CONNECTIONS: Final = f"{names.UPSTREAM_CONNECTIONS} idle"
BUSY: Final = (
    names.CALLS_IN_FLIGHT,
    names.CALLS_QUEUED,
    names.UPSTREAM_REQUESTS_IN_FLIGHT,
    ACTIVE_CONNECTIONS,
)
"""Metrics that are zero while no call runs."""
METRICS: Final = frozenset(
    {
        names.ASYNCIO_TASKS,
        names.PYTHON_ALLOCATED_BLOCKS,
        names.LOG_LINES_DROPPED,
        IDLE_CONNECTIONS,
        *BUSY,
    }
)
"""The metrics in a sample, by name and label values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Values at one moment. `idle_after_s` is the wait until the server was idle, None if it was not."""

    time_s: float
    calls: int
    idle_after_s: float | None
    values: dict[str, int]


async def sample_when_idle(service: Service, *, since_s: float, calls: int) -> Sample:
    """Take a sample once nothing is in flight, or after IDLE_TIMEOUT_S if something still is."""
    started_s = now_s = time.monotonic()
    while (busy := _busy(metrics_of(service.metrics()))) and now_s - started_s < IDLE_TIMEOUT_S:
        await asyncio.sleep(0.02)
        now_s = time.monotonic()
    service.collect_garbage()
    return Sample(
        time_s=round(now_s - since_s, 3),
        calls=calls,
        idle_after_s=None if busy else round(now_s - started_s, 3),
        values=_without_idle_connections({**process_values(service.pid), **metrics_of(service.metrics())}),
    )


def metrics_of(page: str) -> dict[str, int]:
    """Return the values of METRICS on a page of `/metrics`."""
    values = {
        " ".join((sample.name, *sample.labels.values())): int(sample.value)
        for metric in text_string_to_metric_families(page)
        for sample in metric.samples
    }
    return {name: values[name] for name in METRICS}


def process_values(pid: int) -> dict[str, int]:
    """Return memory in KiB, threads, open files and, of these, sockets, as Linux shows them."""
    process = Path("/proc") / str(pid)
    status = (process / "status").read_text("ascii")
    open_files = [_target(link) for link in (process / "fd").iterdir()]
    return {
        "rss_kib": _number("VmRSS", status),
        "rss_anonymous_kib": _number("RssAnon", status),
        "threads": _number("Threads", status),
        "open_files": len(open_files),
        "sockets": sum(target.startswith("socket:") for target in open_files),
    }


def _without_idle_connections(values: dict[str, int]) -> dict[str, int]:
    """Subtract the pool's idle connections from the open files: they vary, and are a value of their own."""
    idle = values[IDLE_CONNECTIONS]
    return {**values, "open_files": values["open_files"] - idle, "sockets": values["sockets"] - idle}


def _busy(values: Mapping[str, int]) -> bool:
    return any(values[name] for name in BUSY)


def _number(name: str, status: str) -> int:
    match = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    assert match
    return int(match[1])


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except FileNotFoundError:  # closed since it was listed
        return ""
