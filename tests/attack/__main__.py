"""`make attack`: runs every attack against a confined service, and prints a table.

The service has 1 GiB of memory and 1,024 files. A row holds if the service survives with a peak of at most
400 MB, answers every probe within a second, and serves its honest callers. Where a row
does not hold for a limit that `SECURITY.md` names, the verdict says so.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from attack.table import ATTACKS, BY_NAME, Attack
from attack.victim import Observed, observed, victim

PEAK_MB = 400
PROBE_S = 1.0
SECONDS = 60.0
CONNECTIONS = 1200
ROUNDS = 10**9
SETTLE_S = 0.5
COLUMNS = (
    "attack", "listener", "expected", "answers", "memory", "worst /healthz", "callers served", "log lines",
    "verdict",
)  # fmt: skip
HEAD = "\n".join((f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"))


@dataclass(frozen=True, kw_only=True)
class Intensity:
    """How long an attack lasts, and how wide it is."""

    seconds: float = SECONDS
    rounds: int = ROUNDS
    connections: int = CONNECTIONS


async def attacked(attack: Attack, intensity: Intensity) -> tuple[Observed, dict[str, int], int]:
    """Run one attack against a fresh service. Return what was observed, its answers, and its log lines."""
    with tempfile.TemporaryDirectory() as folder:
        async with victim(Path(folder)) as running, observed(running) as seen:
            answers = await _run(attack, running, intensity)
            await asyncio.sleep(SETTLE_S)
        return seen, answers, len(running.command.lines)


async def _run(attack: Attack, running, intensity: Intensity) -> dict[str, int]:
    target = {
        "attack": attack.name,
        "grpc": running.grpc,
        "http": running.http,
        "admin": running.admin,
        "key": running.key,
        "seconds": intensity.seconds,
        "rounds": intensity.rounds,
        "connections": intensity.connections,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "attack.attacker",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL, env=os.environ,
    )  # fmt: skip
    out, _ = await process.communicate(json.dumps(target).encode())
    return json.loads(out) if out else {"the attacker failed": 1}


def problems(seen: Observed) -> list[str]:
    """Return why a row does not hold."""
    found = []
    if seen.killed:
        found.append("killed for its memory")
    if seen.peak_mib * 2**20 > PEAK_MB * 1e6:
        found.append(f"peak above {PEAK_MB} MB")
    if seen.worst_probe_s > PROBE_S or seen.failed_probes:
        found.append(f"{seen.failed_probes} probes failed")
    if seen.failed_calls:
        found.append(f"{seen.failed_calls} calls failed ({'; '.join(sorted(seen.causes))})")
    return found


def verdict_of(seen: Observed, attack: Attack) -> str:
    found = "; ".join(problems(seen))
    return f"{found} (known limit: {attack.limit})" if found and attack.limit else found or "holds"


def row(attack: Attack, seen: Observed, answers: dict[str, int], lines: int) -> str:
    common = sorted(answers.items(), key=lambda item: -item[1])[:4]
    answered = ", ".join(f"{name}: {count}" for name, count in common) or "nothing"
    verdict = verdict_of(seen, attack)
    cells = (
        attack.name,
        attack.listener,
        attack.expected,
        answered,
        f"{_megabytes(seen.start_mib)} to {_megabytes(seen.peak_mib)} MB",
        f"{seen.worst_probe_s * 1000:.0f} ms",
        f"{seen.calls - seen.failed_calls} of {seen.calls}, worst {seen.worst_call_s * 1000:.0f} ms",
        str(lines),
        verdict,
    )
    return f"| {' | '.join(cells)} |"


def _megabytes(mebibytes: float) -> str:
    return f"{mebibytes * 2**20 / 1e6:.0f}"


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main() -> int:
    parser = argparse.ArgumentParser(prog="make attack", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="duration of each attack")
    parser.add_argument(
        "--only", action="append", choices=sorted(BY_NAME), help="run this attack; may be repeated"
    )
    options = parser.parse_args()
    failed = 0
    _write(HEAD)
    for attack in ATTACKS:
        if options.only and attack.name not in options.only:
            continue
        seen, answers, lines = await attacked(attack, Intensity(seconds=options.seconds))
        failed += bool(problems(seen))
        _write(row(attack, seen, answers, lines))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
