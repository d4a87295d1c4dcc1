"""A real API server on loopback: etcd and kube-apiserver, in a folder that is thrown away.

Owns their start and end, and how they are asked. Anybody on this machine with the token may do
anything in it, and nothing runs in it: it has no nodes and no controllers, it validates and stores.
"""

import json
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_S = 120.0
STOP_S = 20.0
ROOT = Path(__file__).parents[3]

# Of each kind, the path before the namespace, and the name of its collection.
PLACES = {
    "Namespace": ("/api/v1", "namespaces"),
    "Pod": ("/api/v1", "pods"),
    "ConfigMap": ("/api/v1", "configmaps"),
    "Service": ("/api/v1", "services"),
    "Deployment": ("/apis/apps/v1", "deployments"),
    "HorizontalPodAutoscaler": ("/apis/autoscaling/v2", "horizontalpodautoscalers"),
    "NetworkPolicy": ("/apis/networking.k8s.io/v1", "networkpolicies"),
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets"),
}


class RefusedError(Exception):
    """The API server refused an object; the message is its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServer:
    """How it is asked."""

    url: str
    token: str
    trusted: ssl.SSLContext

    def apply(self, it: dict, *, namespace: str = "") -> dict:
        """Apply an object as the server does it; what it has become. Unknown fields are refused.

        Raises:
            RefusedError: it was.
        """
        group, plural = PLACES[it["kind"]]
        inside = f"/namespaces/{namespace}" if namespace else ""
        path = f"{group}{inside}/{plural}/{it['metadata']['name']}"
        return self._ask("PATCH", f"{path}?fieldManager=e2e&fieldValidation=Strict", it)

    def version(self) -> str:
        """Which Kubernetes it is."""
        return self._ask("GET", "/version")["gitVersion"]

    def ready(self) -> bool:
        """Whether it serves."""
        try:
            self._ask("GET", "/version")
            return self._text("GET", "/readyz") == "ok"
        except (RefusedError, OSError):
            return False

    def _ask(self, method: str, path: str, body: dict | None = None) -> dict:
        return json.loads(self._text(method, path, body))

    def _text(self, method: str, path: str, body: dict | None = None) -> str:
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/apply-patch+yaml"},
        )
        try:
            with urllib.request.urlopen(request, context=self.trusted, timeout=60) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as exc:
            raise RefusedError(exc.read().decode()) from None


@contextmanager
def api_server(folder: Path) -> Iterator[ApiServer]:
    """One that serves, until the end of the block.

    Raises:
        RuntimeError: a part is missing or did not start; the message says which, and where its log is.
    """
    etcd_url, peer_url = (f"http://127.0.0.1:{_free_port()}" for _ in range(2))
    etcd = [
        *(_program("etcd"), "--data-dir", str(folder / "etcd"), "--unsafe-no-fsync"),
        *("--listen-client-urls", etcd_url, "--advertise-client-urls", etcd_url),
        *("--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url),
        *("--initial-cluster", f"default={peer_url}"),
    ]
    port, token = _free_port(), secrets.token_hex(16)
    _write_private(folder / "tokens.csv", f"{token},e2e,e2e,system:masters\n")
    certificates = folder / "certificates"
    server = [
        *(_program("kube-apiserver"), "--etcd-servers", etcd_url, "--bind-address", "127.0.0.1"),
        *("--secure-port", str(port), "--cert-dir", str(certificates)),
        *("--token-auth-file", str(folder / "tokens.csv"), "--authorization-mode", "RBAC"),
        *("--service-cluster-ip-range", "10.96.0.0/16", "--service-account-issuer", "https://e2e.invalid"),
        *("--service-account-signing-key-file", str(_signing_key(folder))),
        *("--service-account-key-file", str(folder / "signing.pem")),
        # Its controller would make an account in each namespace, and none runs here.
        *("--disable-admission-plugins", "ServiceAccount"),
    ]
    with _running(etcd, folder / "etcd.log"), _running(server, folder / "kube-apiserver.log") as process:
        trusted = _trusted_once_written(certificates / "apiserver.crt", process)
        api = ApiServer(url=f"https://127.0.0.1:{port}", token=token, trusted=trusted)
        _wait(api.ready, process)
        yield api


def _trusted_once_written(file: Path, process: subprocess.Popen[bytes]) -> ssl.SSLContext:
    _wait(lambda: file.exists() and b"END CERT" in file.read_bytes(), process)
    return ssl.create_default_context(cafile=str(file))


def _wait(reached, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_S
    while not reached():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{process.args[0]} did not start; its log is beside its data")
        time.sleep(0.1)


@contextmanager
def _running(words: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{ROOT}/.tools/e2e:{os.environ.get('PATH', '')}")
    if found is None:
        raise RuntimeError(f"there is no {name} here: see deploy/e2e/README.md")
    return found


def _signing_key(folder: Path) -> Path:
    key = folder / "signing.pem"
    words = [_program("openssl"), "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subprocess.run([*words, "-out", str(key)], check=True, capture_output=True)
    return key


def _write_private(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text, encoding="ascii")


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
