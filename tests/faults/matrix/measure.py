"""The peak of a process's memory, where the system tells it (Linux)."""

import contextlib
import os
from pathlib import Path


def peak_mib(pid=None):
    """The most memory that a process has had, in MiB, since `forget_peak`."""
    status = Path(f"/proc/{pid or os.getpid()}/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def forget_peak(pid=None):
    """Let the peak begin anew from what is held now."""
    Path(f"/proc/{pid or os.getpid()}/clear_refs").write_text("5", encoding="ascii")


@contextlib.contextmanager
def peak_growth_mib(pid=None):
    """Within it, `growth()` is by how much the peak has grown since the beginning."""
    forget_peak(pid)
    before = peak_mib(pid)
    yield lambda: peak_mib(pid) - before
