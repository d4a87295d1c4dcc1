"""Audits every lock against an advisory service.

pip-audit skips a package that the service does not know, reports no known vulnerability, and exits with 0.
A mirror of the package index without advisories makes it skip all packages. So this program fails for
packages that were not audited, with a separate status.

    python requirements/audit.py requirements/server.txt ...

Exit status: 0 all packages were audited without findings, 1 a vulnerability was found, 2 a package could not
be audited.
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
class AuditResult:
    """The exit status and the printed lines for one report."""

    status: int
    lines: tuple[str, ...]


def evaluate(dependencies: Sequence[Dependency]) -> AuditResult:
    """Evaluate a report: findings take precedence over skipped packages; an empty report is not an audit."""
    found = [
        f"{one.get('name')} {one.get('version')}: {vulnerability['id']}, "
        f"fixed in {', '.join(vulnerability['fix_versions']) or 'no version'}"
        for one in dependencies
        for vulnerability in one.get("vulns", [])
    ]
    skipped = [one for one in dependencies if "skip_reason" in one]
    if skipped or not dependencies:
        found.append(
            f"NOT AUDITED: {len(skipped)} of {len(dependencies)} packages; "
            "the advisory service does not know them"
        )
    if any("vulns" in one and one["vulns"] for one in dependencies):
        return AuditResult(status=FOUND, lines=tuple(found))
    if found:
        return AuditResult(status=NOT_AUDITED, lines=tuple(found))
    return AuditResult(status=CLEAN, lines=(f"{len(dependencies)} packages audited, nothing found",))


def report_of(lock: str) -> list[Dependency]:
    """Run pip-audit on a lock and return its report, which is empty if pip-audit failed."""
    options = ["--require-hashes", "--disable-pip", "--progress-spinner=off", "--format=json"]
    done = subprocess.run(  # noqa: S603  a lock of ours
        [sys.executable, "-m", "pip_audit", "--requirement", lock, *options],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        report = cast("Mapping[str, list[Dependency]]", json.loads(done.stdout))
    except ValueError:
        return []
    return report["dependencies"]


def main(locks: Sequence[str]) -> int:
    results = {lock: evaluate(report_of(lock)) for lock in locks}
    for lock, result in results.items():
        for line in result.lines:
            sys.stdout.write(f"{lock}: {line}\n")
    statuses = {result.status for result in results.values()}
    return FOUND if FOUND in statuses else max(statuses, default=NOT_AUDITED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
