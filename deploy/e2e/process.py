"""Starts, awaits and ends the processes of a node.

Each process has a log file. This module knows nothing of Kubernetes.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

LOGS = Path(os.environ["E2E_LOGS"])
START_S, STOP_S = 180.0, 20.0


@contextmanager
def running(name: str, *words: str) -> Generator[Callable[[], bool]]:
    """Run a process until the end of the block; yields a check that the process is alive."""
    with (LOGS / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([name, *words], stdout=log, stderr=subprocess.STDOUT)
    try:
        yield lambda: process.poll() is None
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(
    condition: str, reached: Callable[[], object], alive: Callable[[], bool] = lambda: True
) -> None:
    """Wait until a condition holds.

    Raises:
        SystemExit: the condition does not hold within START_S, or the process has ended.
    """
    end = time.monotonic() + START_S
    while not reached():
        if not alive() or time.monotonic() > end:
            raise SystemExit(f"e2e: failed while waiting until {condition}; see the logs in {LOGS}")
        time.sleep(0.2)


def output_of(*words: str) -> str:
    """Return what a program prints; an empty string if the program fails."""
    run = subprocess.run(words, capture_output=True, text=True, check=False)
    return "" if run.returncode else run.stdout.strip()


def exit_status_of(*words: str, **environment: str) -> int:
    """Run a program on the terminal and return its exit status."""
    return subprocess.run(words, check=False, env={**os.environ, **environment}).returncode


def is_healthy(url: str) -> bool:
    """Whether a server returns 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


def resolves(name: str) -> bool:
    """Whether the DNS has an address for a name."""
    try:
        return bool(socket.getaddrinfo(name, 443))
    except OSError:
        return False


def report(text: str) -> None:
    """Print progress on standard error."""
    sys.stderr.write(f"e2e: {text}\n")
