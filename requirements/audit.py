"""Asks a service of advisories about everything that is locked, and says what came of it.

pip-audit calls a package that the service does not know "skipped", says that no vulnerability is
known, and exits with 0. Behind a mirror of the package index that has no advisories all are
skipped: so what was not audited is a failure here, with a status of its own.

    python requirements/audit.py requirements/server.txt ...

Exit status: 0 everything was audited and nothing found, 1 something was found, 2 something could
not be audited.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypedDict, cast

CLEAN: Final = 0
FOUND: Final = 1
NOT_AUDITED: Final = 2


class _Vulnerability(TypedDict):
    id: str
    fix_versions: list[str]


class Dependency(TypedDict, total=False):
    """One package in pip-audit's report."""

    name: str
    version: str
    skip_reason: str
    vulns: list[_Vulnerability]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a report comes to: the exit status, and lines for whoever reads it."""

    status: int
    lines: tuple[str, ...]


def judge(dependencies: Sequence[Dependency]) -> Judgement:
    """What is found weighs more than what could not be looked at; an empty report is no audit."""
    found = [
        f"{one.get('name')} {one.get('version')}: {weakness['id']}, "
        f"mended in {', '.join(weakness['fix_versions']) or 'no version'}"
        for one in dependencies
        for weakness in one.get("vulns", [])
    ]
    skipped = [one for one in dependencies if "skip_reason" in one]
    if skipped or not dependencies:
        found.append(
            f"NOT AUDITED: {len(skipped)} of {len(dependencies)} packages; "
            "the service of advisories does not answer for them"
        )
    if any("vulns" in one and one["vulns"] for one in dependencies):
        return Judgement(status=FOUND, lines=tuple(found))
    if found:
        return Judgement(status=NOT_AUDITED, lines=tuple(found))
    return Judgement(status=CLEAN, lines=(f"{len(dependencies)} packages audited, nothing found",))


def report_of(lock: str) -> list[Dependency]:
    """Pip-audit's report on a lock; empty where it gave none."""
    words = ["--require-hashes", "--disable-pip", "--progress-spinner=off", "--format=json"]
    ran = subprocess.run(  # noqa: S603  a lock of ours
        [sys.executable, "-m", "pip_audit", "--requirement", lock, *words],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        report = cast("Mapping[str, list[Dependency]]", json.loads(ran.stdout))
    except ValueError:
        return []
    return report["dependencies"]


def main(locks: Sequence[str]) -> int:
    judgements = {lock: judge(report_of(lock)) for lock in locks}
    for lock, judgement in judgements.items():
        for line in judgement.lines:
            sys.stdout.write(f"{lock}: {line}\n")
    statuses = {judgement.status for judgement in judgements.values()}
    return FOUND if FOUND in statuses else max(statuses, default=NOT_AUDITED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
