"""Runs targets one after the other, each in a process of its own, and reads what the fuzzer says.

Owns the folders: `.fuzz/TARGET/` holds what a run works on and what it found, `tests/fuzz/corpus/`
what is kept. Knows no atheris: it only starts it.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fuzz.seeds import seeds
from fuzz.words import dictionary

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
CORPUS: Final = HERE / "corpus"
SCRATCH: Final = ROOT / ".fuzz"
ALWAYS_KEPT: Final = "found-"
"""How the names of inputs begin that once were a finding."""
INPUT_BYTES_MAX: Final = 4096
INPUT_S_MAX: Final = 5
MEMORY_MIB_MAX: Final = 1024
SAID_CHARACTERS_MAX: Final = 4000
TRACEBACK: Final = "=== Uncaught Python exception: ==="

_STATE = re.compile(r"^#\d+\s+\S+\s+cov: (\d+) ft: (\d+)", re.MULTILINE)
_UNITS = re.compile(r"^stat::number_of_executed_units:\s+(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run of one target came to. `edges` and `features` are libFuzzer's two counts of coverage."""

    target: str
    executions: int
    edges: int
    features: int
    inputs_new: int
    findings: tuple[Path, ...]
    said: str
    """The fuzzer's words about a finding; empty without one."""


def run(target: str, *, seconds: int) -> Run:
    """Fuzz one target for so long, or until it finds something."""
    work = SCRATCH / target
    found, first, findings = work / "corpus", work / "seeds", work / "findings"
    for folder in (found, first, findings, CORPUS / target):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(target)):
        (first / f"{number:04}").write_bytes(seed)
    (work / "words").write_text(dictionary(), encoding="ascii")
    known, before = set(findings.iterdir()), len(list(found.iterdir()))
    status, said = _atheris(
        target,
        f"-max_total_time={seconds}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-timeout={INPUT_S_MAX}",
        f"-rss_limit_mb={MEMORY_MIB_MAX}",
        f"-dict={work / 'words'}",
        f"-artifact_prefix={findings}/",
        "-print_final_stats=1",
        *map(str, (found, CORPUS / target, first)),
    )
    (work / "log").write_text(said, encoding="utf-8")
    edges, features = max(((int(a), int(b)) for a, b in _STATE.findall(said)), default=(0, 0))
    return Run(
        target=target,
        executions=max(map(int, _UNITS.findall(said)), default=0),
        edges=edges,
        features=features,
        inputs_new=len(list(found.iterdir())) - before,
        findings=tuple(sorted(set(findings.iterdir()) - known)),
        said=said[max(0, said.find(TRACEBACK)) :][:SAID_CHARACTERS_MAX] if status else "",
    )


def keep(target: str) -> tuple[int, int]:
    """Make the kept corpus the smallest set that covers what everything together covers, and
    what once was a finding.

    The number of inputs and their bytes.
    """
    work, kept = SCRATCH / target, CORPUS / target
    chosen = work / "chosen"
    shutil.rmtree(chosen, ignore_errors=True)
    chosen.mkdir()
    _atheris(target, "-set_cover_merge=1", *map(str, (chosen, kept, work / "corpus", work / "seeds")))
    if not any(chosen.iterdir()):
        raise RuntimeError(f"{target}: the merge kept nothing")
    for path in kept.glob(f"{ALWAYS_KEPT}*"):
        shutil.copy(path, chosen)
    shutil.rmtree(kept)
    shutil.copytree(chosen, kept)
    inputs = list(kept.iterdir())
    return len(inputs), sum(path.stat().st_size for path in inputs)


def _atheris(target: str, *arguments: str) -> tuple[int, str]:
    sources = os.pathsep.join(str(ROOT / name) for name in ("protos", "server", "tests"))
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.under_atheris", target, *arguments],
        env={**os.environ, "PYTHONPATH": sources},
        cwd=ROOT,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")
