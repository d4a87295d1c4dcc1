"""The service as a process of its own, and its simulator's request log: for clients that nobody adapted.

For tests in environments that have the clients and not the service (`make test-sdks`,
`make test-console`): of the standard library alone. TOGETHERCHAT_PYTHON names the Python that
has the service.
"""

import json
import os
import re
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
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
        address = f"{self.simulator}/sandbox/request-log?model={model}"
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


def start(*words, http="127.0.0.1:0", environment=None):
    """A process that serves, and its first line. With a base URL in its environment: not the simulator."""
    named = environment or {}
    source = () if "TOGETHER_BASE_URL" in named else ("--sandbox",)
    process = subprocess.Popen(
        [
            os.environ["TOGETHERCHAT_PYTHON"], "-m", "togetherchat_server", *source,
            "--grpc-listen", "127.0.0.1:0", "--http-listen", http, "--admin-listen", "off", *words,
        ],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": SOURCES, **named},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    said = []
    for line in process.stderr:
        if " SERVING: " in line:
            return process, line
        said.append(line)
    raise AssertionError(f"the service ended with {process.wait(START_S)}: {''.join(said)}")


@contextmanager
def serving(*words, http="127.0.0.1:0", environment=None):
    """A service for as long as the context lasts."""
    process, line = start(*words, http=http, environment=environment)
    found = re.search(r"HTTP on (\S+), .*answers from (\S+)/v1", line)
    try:
        yield Served(base_url=found[1], simulator=found[2])
    finally:
        process.terminate()
        process.communicate(timeout=REASONABLE_S)
