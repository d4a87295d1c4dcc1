"""The service as a process of its own, and its simulator's ledger: for clients that nobody adapted.

These tests run in an environment that has the clients and not the service (`make test-sdks`).
TOGETHERCHAT_PYTHON names the Python that has it.
"""

import json
import os
import re
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = os.pathsep.join(str(ROOT / source) for source in ("protos", "server"))
START_S = 60.0
REASONABLE_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Served:
    """Where the door is, and the simulator behind it."""

    base_url: str
    simulator: str

    def asked(self, model):
        """The simulator's memory of the requests for a model."""
        address = f"{self.simulator}/sandbox/ledger?model={model}"
        with urllib.request.urlopen(address, timeout=REASONABLE_S) as answer:
            return json.load(answer)["requests"]

    def left(self, model):
        """Wait until the one request for a model has ended, and say how."""
        give_up = time.monotonic() + REASONABLE_S
        while time.monotonic() < give_up:
            (request,) = self.asked(model)
            if request["ended"] != "running":
                return request["ended"]
            time.sleep(0.02)
        raise TimeoutError(f"{model} did not end")


def start(*words, http="127.0.0.1:0"):
    """A process that serves, and its first line."""
    process = subprocess.Popen(
        [
            os.environ["TOGETHERCHAT_PYTHON"], "-m", "togetherchat_server", "--sandbox",
            "--listen", "127.0.0.1:0", "--http", http, "--admin", "off", *words,
        ],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": SOURCES},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    for line in process.stderr:
        if " SERVING: " in line:
            return process, line
    raise AssertionError(f"the service ended with {process.wait(START_S)}")


@pytest.fixture(scope="session")
def served():
    """One service for all tests; it tries nothing again by itself, so that the clients' retries show."""
    process, line = start("--retries", "0", "--sandbox-tokens-per-second", "100", "--log", "json")
    found = re.search(r"HTTP on (\S+), .*simulated answers from (\S+)/v1", line)
    try:
        yield Served(base_url=found[1], simulator=found[2])
    finally:
        process.terminate()
        process.communicate(timeout=REASONABLE_S)
