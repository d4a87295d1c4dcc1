"""The cluster that deploy/e2e/run has brought up: asked by kubectl, called by callers.

Owns how it is asked and waited for. Refuses to know what is right; the tests beside it do.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from rendered import ROOT, RefusedError, run

PATIENCE_S = 180.0
DOMAIN = "svc.cluster.local"
PYTHON = os.environ.get("TOGETHERCHAT_PYTHON", f"{ROOT}/.venv/bin/python")
HERE = Path(__file__).parent


def kubectl(*words: str, stdin: str = "") -> str:
    """What it prints. Raises RefusedError, with its words, where it fails."""
    return run("kubectl", *words, stdin=stdin)


def objects(*words: str) -> list[dict]:
    """What `kubectl get` finds."""
    return json.loads(kubectl("get", *words, "--output", "json"))["items"]


def eventually(what: str, reached: Callable[[], object]) -> None:
    """Wait for what the cluster does in its own time. Raises TimeoutError when it does not."""
    end = time.monotonic() + PATIENCE_S
    while not reached():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A namespace that togetherchat is installed in."""

    namespace: str

    def kubectl(self, *words: str, stdin: str = "") -> str:
        return kubectl("--namespace", self.namespace, *words, stdin=stdin)

    def pods(self) -> dict[str, dict]:
        """Those of the Deployment that are not on their way out, by their names."""
        found = objects("pods", "--namespace", self.namespace)
        return {it["metadata"]["name"]: it for it in found if "deletionTimestamp" not in it["metadata"]}

    def ready(self) -> set[str]:
        """Names of the pods that the kubelet has found ready."""
        return {name for name, pod in self.pods().items() if _condition(pod, "Ready")}

    def gone(self, names: set[str]) -> bool:
        """Whether nothing is left of these pods."""
        left = {it["metadata"]["name"] for it in objects("pods", "--namespace", self.namespace)}
        return not names & left

    def failing(self) -> set[str]:
        """Names of the pods whose container has ended by itself."""
        return {name for name, pod in self.pods().items() if _ended_by_itself(pod)}

    def service(self, name: str) -> dict:
        return json.loads(self.kubectl("get", "service", name, "--output", "json"))

    def budget(self) -> dict:
        """What the budget for disruptions has come to."""
        (found,) = objects("poddisruptionbudgets", "--namespace", self.namespace)
        return found.get("status", {"disruptionsAllowed": 0})

    def everything(self) -> list[dict]:
        """What an installation consists of."""
        return objects("deployments,services,pods", "--namespace", self.namespace)

    def watched_end(self, pod: str) -> Callable[[], int]:
        """Watch a pod to its end; what is returned waits for it, and says the exit status."""
        path = "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}{'\\n'}"
        words = ["kubectl", "--namespace", self.namespace, "get", "pod", pod, "--watch", "--output", path]
        watch = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

        def ended() -> int:
            said = next(line for line in watch.stdout if line.strip())
            watch.terminate()
            watch.communicate()
            return int(said)

        return ended

    def scale(self, replicas: int) -> None:
        """To so many pods, all of them ready and none leaving."""
        self.kubectl("scale", "deployment/togetherchat", f"--replicas={replicas}")
        self.rolled_out()
        eventually(f"{replicas} pods", lambda: replicas == len(self._all()))

    def with_flags(self, *flags: str) -> None:
        """Give the pods more flags, which is a rollout."""
        path = "/spec/template/spec/containers/0/args/-"
        more = json.dumps([{"op": "add", "path": path, "value": flag} for flag in flags])
        self.kubectl("patch", "deployment/togetherchat", "--type", "json", "--patch", more)

    def rolled_out(self) -> None:
        self.kubectl("rollout", "status", "deployment/togetherchat", f"--timeout={PATIENCE_S:.0f}s")

    def inside(self, code: str) -> str:
        """What Python says in a pod."""
        return self.kubectl("exec", "deployment/togetherchat", "--", "python", "-c", code).strip()

    def name(self, service: str) -> str:
        """A Service's, for callers anywhere in the cluster."""
        return f"{service}.{self.namespace}.{DOMAIN}"

    def _all(self) -> list[dict]:
        return objects("pods", "--namespace", self.namespace)


def _condition(pod: dict, kind: str) -> bool:
    found = pod["status"].get("conditions", [])
    return any(it["type"] == kind and it["status"] == "True" for it in found)


def _ended_by_itself(pod: dict) -> bool:
    (container,) = pod["status"].get("containerStatuses", [{}])
    return "terminated" in {**container.get("lastState", {}), **container.get("state", {})}


class Callers:
    """A program of callers that is under way."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def more(self) -> dict:
        """Wait until more calls of every kind were made; what callers saw so far."""
        self._process.stdin.write("more\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def ended(self) -> dict:
        """Let the calls that run finish; what callers saw, by the way that they took."""
        out, _ = self._process.communicate()
        return json.loads(out)


@contextlib.contextmanager
def calling(*, grpc: Mapping[str, str], http: str = "") -> Iterator[Callers]:
    """Callers who have had answers of every kind."""
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


def pasted(lines: str, folder: Path = ROOT, *, typed: str = "") -> str:
    """What a shell says to lines that are pasted into it, and to what is typed when it asks.

    What they leave running is ended. Raises RefusedError where one of them fails.
    """
    with TemporaryFile("w+") as said, TemporaryFile("w+") as keyboard:
        keyboard.write(typed)
        keyboard.seek(0)
        shell = subprocess.Popen(
            ["bash", "-e", "-c", lines],
            cwd=folder,
            stdin=keyboard,
            stdout=said,
            stderr=said,
            env={**os.environ, "PATH": f"{Path(PYTHON).parent}:{os.environ['PATH']}"},
            start_new_session=True,
        )
        shell.wait()
        with contextlib.suppress(ProcessLookupError):  # nothing was left
            os.killpg(shell.pid, signal.SIGTERM)
        said.seek(0)
        if shell.returncode:
            raise RefusedError(said.read())
        return said.read()
