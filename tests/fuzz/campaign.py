"""Runs targets one after the other, each in its own process, and parses the fuzzer's output.

Owns the folders: `.fuzz/TARGET/` holds the working files and findings of a run, `tests/fuzz/corpus/`
the kept inputs. Does not import atheris: the fuzzer runs in the child process.
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
"""Prefix of the names of inputs that were findings."""
INPUT_BYTES_MAX: Final = 4096
INPUT_S_MAX: Final = 5
MEMORY_MIB_MAX: Final = 1024
OUTPUT_CHARACTERS_MAX: Final = 4000
TRACEBACK: Final = "=== Uncaught Python exception: ==="

_STATE = re.compile(r"^#\d+\s+\S+\s+cov: (\d+) ft: (\d+)", re.MULTILINE)
_UNITS = re.compile(r"^stat::number_of_executed_units:\s+(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The result of one target's run. `edges` and `features` are libFuzzer's two counts of coverage."""

    target: str
    executions: int
    edges: int
    features: int
    inputs_new: int
    findings: tuple[Path, ...]
    output: str
    """The fuzzer's output about a finding; empty without one."""


def run(target: str, *, seconds: int) -> Run:
    """Fuzz one target for a number of seconds, or until it finds something."""
    work = SCRATCH / target
    found, first, findings = work / "corpus", work / "seeds", work / "findings"
    for folder in (found, first, findings, CORPUS / target):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(target)):
        (first / f"{number:04}").write_bytes(seed)
    (work / "words").write_text(dictionary(), encoding="ascii")
    earlier, before = set(findings.iterdir()), len(list(found.iterdir()))
    status, output = _atheris(
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
    (work / "log").write_text(output, encoding="utf-8")
    edges, features = max(((int(a), int(b)) for a, b in _STATE.findall(output)), default=(0, 0))
    return Run(
        target=target,
        executions=max(map(int, _UNITS.findall(output)), default=0),
        edges=edges,
        features=features,
        inputs_new=len(list(found.iterdir())) - before,
        findings=tuple(sorted(set(findings.iterdir()) - earlier)),
        output=output[max(0, output.find(TRACEBACK)) :][:OUTPUT_CHARACTERS_MAX] if status else "",
    )


def keep(target: str) -> tuple[int, int]:
    """Reduce the kept corpus to the smallest set with the coverage of all inputs, plus earlier findings.

    Returns the number of inputs and their total size in bytes.
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
    completed = subprocess.run(
        [sys.executable, "-m", "fuzz.under_atheris", target, *arguments],
        env={**os.environ, "PYTHONPATH": sources},
        cwd=ROOT,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return completed.returncode, completed.stdout.decode("utf-8", "replace")
