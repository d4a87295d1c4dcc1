"""The peak memory of a process (Linux)."""

import contextlib
import os
from pathlib import Path


def peak_mib(pid=None):
    """The peak resident memory of a process since `reset_peak`, in MiB."""
    status = Path(f"/proc/{pid or os.getpid()}/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def reset_peak(pid=None):
    """Reset the peak to the current memory."""
    Path(f"/proc/{pid or os.getpid()}/clear_refs").write_text("5", encoding="ascii")


@contextlib.contextmanager
def peak_growth_mib(pid=None):
    """Yields `growth()`: by how much the peak has grown since the beginning."""
    reset_peak(pid)
    before = peak_mib(pid)
    yield lambda: peak_mib(pid) - before
