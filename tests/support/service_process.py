"""Runs the service as a process, and reads its sandbox's request log.

For tests in environments without the service (`make test-sdks`, `make test-console`), so it uses the
standard library only. TOGETHERCHAT_PYTHON names the Python in which the service is installed.
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
class ServiceProcess:
    """The base URL of the HTTP listener, the address of the gRPC listener, and that of the sandbox."""

    base_url: str
    sandbox_url: str
    grpc_address: str

    def requests(self, model):
        """Return the sandbox's log of the requests for a model."""
        address = f"{self.sandbox_url}/sandbox/request-log?model={model}"
        with urllib.request.urlopen(address, timeout=REASONABLE_S) as response:
            return json.load(response)["requests"]

    def wait_until_ended(self, model):
        """Wait until the only request for a model has ended. Return how."""
        deadline = time.monotonic() + REASONABLE_S
        while time.monotonic() < deadline:
            (request,) = self.requests(model)
            if request["ended"] != "running":
                return request["ended"]
            time.sleep(0.02)
        raise TimeoutError(f"{model} did not end")


def start(*arguments, http="127.0.0.1:0", environment=None):
    """Start the service. Return the process and its SERVING line.

    The provider is the sandbox unless the environment names a base URL.
    """
    environment = environment or {}
    source = () if "TOGETHER_BASE_URL" in environment else ("--sandbox",)
    process = subprocess.Popen(
        [
            os.environ["TOGETHERCHAT_PYTHON"], "-m", "togetherchat_server", *source,
            "--grpc-listen", "127.0.0.1:0", "--http-listen", http, "--admin-listen", "off", *arguments,
        ],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": SOURCES, **environment},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    lines = []
    for line in process.stderr:
        if " SERVING: " in line:
            return process, line
        lines.append(line)
    raise AssertionError(f"the service exited with {process.wait(START_S)}: {''.join(lines)}")


@contextmanager
def serving(*arguments, http="127.0.0.1:0", environment=None):
    """Run the service while the context is open."""
    process, line = start(*arguments, http=http, environment=environment)
    match = re.search(r"gRPC on (\S+), .*HTTP on (\S+), .*completions from (\S+)/v1", line)
    try:
        yield ServiceProcess(grpc_address=match[1], base_url=match[2], sandbox_url=match[3])
    finally:
        process.terminate()
        process.communicate(timeout=REASONABLE_S)
