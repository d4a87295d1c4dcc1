"""A part of a node is a process with a log: started, waited for, ended.

Knows of no Kubernetes.
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
    """A part, until the end of the block; what is yielded says whether it still runs."""
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


def eventually(what: str, reached: Callable[[], object], alive: Callable[[], bool] = lambda: True) -> None:
    """Wait for what a part does in its own time.

    Raises:
        SystemExit: it does not, or has ended.
    """
    end = time.monotonic() + START_S
    while not reached():
        if not alive() or time.monotonic() > end:
            raise SystemExit(f"e2e: not reached: {what}; the logs are in {LOGS}")
        time.sleep(0.2)


def prints(*words: str) -> str:
    """What a program prints, which is nothing where it fails."""
    run = subprocess.run(words, capture_output=True, text=True, check=False)
    return "" if run.returncode else run.stdout.strip()


def status_of(*words: str, **environment: str) -> int:
    """The exit status of a program that has the terminal."""
    return subprocess.run(words, check=False, env={**os.environ, **environment}).returncode


def answers(url: str) -> bool:
    """Whether a server says that all is well."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def known(name: str) -> bool:
    """Whether the DNS has an address for a name."""
    try:
        return bool(socket.getaddrinfo(name, 443))
    except OSError:
        return False


def say(text: str) -> None:
    """To whoever waits."""
    sys.stderr.write(f"e2e: {text}\n")
