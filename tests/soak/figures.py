"""What a process holds, from outside and by its own account, while no call runs."""

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from soak.processes import Place

REST_S: Final = 5.0
BUSY: Final = (
    "calls_in_flight",
    "calls_waiting",
    "upstream_requests_in_flight",
    "upstream_connections_leased",
)
"""Counts that are zero when no call runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Figures at one moment. `rest_s` is how long the server took to come to rest, None if it did not."""

    time_s: float
    calls: int
    rest_s: float | None
    figures: dict[str, int]


async def at_rest(place: Place, *, since_s: float, calls: int) -> Sample:
    """A sample once nothing is in flight, or after `REST_S` if something still is."""
    began_s = now_s = time.monotonic()
    while (busy := _busy(counts := place.vars())) and now_s - began_s < REST_S:
        await asyncio.sleep(0.02)
        now_s = time.monotonic()
    place.collect_garbage()
    counts = place.vars()
    return Sample(
        time_s=round(now_s - since_s, 3),
        calls=calls,
        rest_s=None if busy else round(now_s - began_s, 3),
        figures={**of_process(place.pid), **counts},
    )


def _busy(counts: Mapping[str, int]) -> bool:
    return any(counts[name] for name in BUSY)


def of_process(pid: int) -> dict[str, int]:
    """As Linux shows it: memory in KiB, threads, open files and, of these, sockets."""
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


def _number(name: str, status: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    assert found
    return int(found[1])


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except FileNotFoundError:  # closed since it was listed
        return ""
