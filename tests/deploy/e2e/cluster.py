"""Access to the cluster that deploy/e2e/run has started: kubectl, waiting, and a load generator.

Knows nothing of what is correct: the tests do.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import TypeVar

from rendered import ROOT, ToolError, run

TIMEOUT_S = 180.0
T = TypeVar("T")
DOMAIN = "svc.cluster.local"
PYTHON = os.environ.get("TOGETHERCHAT_PYTHON", f"{ROOT}/.venv/bin/python")
HERE = Path(__file__).parent


def kubectl(*words: str, stdin: str = "") -> str:
    """Run kubectl and return its output. Raises ToolError, with that output, if it fails."""
    return run("kubectl", *words, stdin=stdin)


def objects(*words: str) -> list[dict]:
    """Return the objects that `kubectl get` finds."""
    return json.loads(kubectl("get", *words, "--output", "json"))["items"]


def wait_until(condition: str, reached: Callable[[], T]) -> T:
    """Wait until a condition holds and return its value. Raises TimeoutError after TIMEOUT_S."""
    end = time.monotonic() + TIMEOUT_S
    while not (value := reached()):
        if time.monotonic() > end:
            raise TimeoutError(f"timed out while waiting until {condition}")
        time.sleep(0.2)
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """The togetherchat that is installed in a namespace."""

    namespace: str

    def kubectl(self, *words: str, stdin: str = "") -> str:
        return kubectl("--namespace", self.namespace, *words, stdin=stdin)

    def pods(self) -> dict[str, dict]:
        """The pods that are not terminating, by name."""
        found = objects("pods", "--namespace", self.namespace)
        return {it["metadata"]["name"]: it for it in found if "deletionTimestamp" not in it["metadata"]}

    def ready(self) -> set[str]:
        """The names of the pods that are ready."""
        return {name for name, pod in self.pods().items() if _condition(pod, "Ready")}

    def gone(self, names: set[str]) -> bool:
        """Whether none of these pods exists any more."""
        left = {it["metadata"]["name"] for it in objects("pods", "--namespace", self.namespace)}
        return not names & left

    def failing(self) -> set[str]:
        """The names of the pods whose container has exited."""
        return {name for name, pod in self.pods().items() if _has_exited(pod)}

    def service(self, name: str) -> dict:
        return json.loads(self.kubectl("get", "service", name, "--output", "json"))

    def budget(self) -> dict:
        """The status of the PodDisruptionBudget."""
        (found,) = objects("poddisruptionbudgets", "--namespace", self.namespace)
        return found.get("status", {"disruptionsAllowed": 0})

    def everything(self) -> list[dict]:
        """The Deployments, Services and pods of the installation."""
        return objects("deployments,services,pods", "--namespace", self.namespace)

    def watch_exit(self, pod: str) -> Callable[[], int]:
        """Watch a pod; returns a function that waits for its exit and returns the exit status."""
        path = "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}{'\\n'}"
        words = ["kubectl", "--namespace", self.namespace, "get", "pod", pod, "--watch", "--output", path]
        watch = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

        def exit_status() -> int:
            status = next(line for line in watch.stdout if line.strip())
            watch.terminate()
            watch.communicate()
            return int(status)

        return exit_status

    def scale(self, replicas: int) -> None:
        """Scale to a number of pods, and wait until all are ready and none is terminating."""
        self.kubectl("scale", "deployment/togetherchat", f"--replicas={replicas}")
        self.wait_for_rollout()
        wait_until(f"there are {replicas} pods", lambda: replicas == len(self._all()))

    def add_flags(self, *flags: str) -> None:
        """Add flags to the container, which starts a rollout."""
        path = "/spec/template/spec/containers/0/args/-"
        more = json.dumps([{"op": "add", "path": path, "value": flag} for flag in flags])
        self.kubectl("patch", "deployment/togetherchat", "--type", "json", "--patch", more)

    def wait_for_rollout(self) -> None:
        self.kubectl("rollout", "status", "deployment/togetherchat", f"--timeout={TIMEOUT_S:.0f}s")

    def wait_until_reachable(self, service: str, port: int) -> None:
        """Wait until the address of a Service accepts connections.

        Ready pods do not imply it. The controller of EndpointSlices repeats a sync with stale data after a
        second or more, and kube-proxy leaves a second between two updates of its rules. Until then the address
        refuses connections.
        """
        address = (self.service(service)["spec"]["clusterIP"], port)
        wait_until(f"{address[0]}:{port} accepts connections", lambda: _accepts_connections(address))

    def run_python(self, code: str) -> str:
        """Run Python code in a pod and return its output."""
        return self.kubectl("exec", "deployment/togetherchat", "--", "python", "-c", code).strip()

    def dns_name(self, service: str) -> str:
        """The DNS name of a Service."""
        return f"{service}.{self.namespace}.{DOMAIN}"

    def _all(self) -> list[dict]:
        return objects("pods", "--namespace", self.namespace)


def _accepts_connections(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, timeout=1):
            return True
    except OSError:
        return False


def _condition(pod: dict, kind: str) -> bool:
    found = pod["status"].get("conditions", [])
    return any(it["type"] == kind and it["status"] == "True" for it in found)


def _has_exited(pod: dict) -> bool:
    (container,) = pod["status"].get("containerStatuses", [{}])
    return "terminated" in {**container.get("lastState", {}), **container.get("state", {})}


class Callers:
    """A load generator (callers.py) that is running."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def more(self) -> dict:
        """Wait for more calls on every path; returns the results so far."""
        self._process.stdin.write("more\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def finish(self) -> dict:
        """Let calls in flight finish; returns the results by path."""
        out, _ = self._process.communicate()
        return json.loads(out)


@contextlib.contextmanager
def calling(*, grpc: Mapping[str, str], http: str = "") -> Iterator[Callers]:
    """Run a load generator, with calls on every path before the block starts."""
    paths = (ROOT / "tests", ROOT / "tests/deploy", ROOT / "clients/python", ROOT / "protos", ROOT / "server")
    process = subprocess.Popen(
        [PYTHON, str(HERE / "callers.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ":".join(map(str, paths))},
    )
    try:
        process.stdin.write(json.dumps({"grpc": dict(grpc), "http": http}) + "\n")
        callers = Callers(process)
        callers.more()
        yield callers
    finally:
        process.kill()
        process.communicate()


def paste(lines: str, folder: Path = ROOT, *, typed: str = "") -> str:
    """Run lines in a shell with `typed` as its input, and return the output.

    Ends background processes of the lines. Raises ToolError if a line fails.
    """
    with TemporaryFile("w+") as output, TemporaryFile("w+") as keyboard:
        keyboard.write(typed)
        keyboard.seek(0)
        shell = subprocess.Popen(
            ["bash", "-e", "-c", lines],
            cwd=folder,
            stdin=keyboard,
            stdout=output,
            stderr=output,
            env={**os.environ, "PATH": f"{Path(PYTHON).parent}:{os.environ['PATH']}"},
            start_new_session=True,
        )
        shell.wait()
        with contextlib.suppress(ProcessLookupError):  # no process is left
            os.killpg(shell.pid, signal.SIGTERM)
        output.seek(0)
        if shell.returncode:
            raise ToolError(output.read())
        return output.read()
