"""What the manifests come to: objects rendered by the tools, and the settings of the pod in them.

Refuses to know what is right; the tests beside it do.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from support.certificates import make_certificate
from togetherchat_server.config import Configuration, read_configuration

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = ROOT / "deploy/kustomize/overlays"
COMPONENTS = ROOT / "deploy/kustomize/components"
CHART = ROOT / "deploy/helm/togetherchat"
NEWEST = "1.37.0"
# What carries no meaning for the cluster: who rendered it, and names made from a content.
REDIS = "redis://:a-password@redis.databases:6379/0"
RENDERERS_MARKS = (
    "app.kubernetes.io/instance",
    "app.kubernetes.io/version",
    "app.kubernetes.io/managed-by",
    "helm.sh/chart",
    "checksum/settings",
    "kube-score/ignore",
)


class RefusedError(Exception):
    """A tool refused what it was given; the message is its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """One way to the objects: an overlay of kustomize, or the chart with files of values."""

    name: str
    text: str

    @property
    def objects(self) -> list[dict]:
        return [found for found in yaml.safe_load_all(self.text) if found]

    def one(self, kind: str, name: str = "togetherchat") -> dict:
        """The only object of a kind, where a configuration's name may end in a hash."""
        found = [
            it
            for it in self.objects
            if it["kind"] == kind
            and (
                it["metadata"]["name"] == name
                or (kind == "ConfigMap" and it["metadata"]["name"].startswith(name))
            )
        ]
        assert 1 == len(found), f"{self.name}: {kind} {name}"
        return found[0]

    @property
    def pod(self) -> dict:
        return self.one("Deployment")["spec"]["template"]["spec"]

    @property
    def container(self) -> dict:
        (container,) = self.pod["containers"]
        return container


def tool(name: str) -> str:
    """A tool by the variable that `make test-deploy` sets, such as KUBE_SCORE; else by its name on the PATH."""
    return os.environ.get(name.upper().replace("-", "_"), name)


def run(*words: str, stdin: str = "") -> str:
    """What a tool prints. Raises RefusedError where it ends with anything but 0."""
    done = finished(*words, stdin=stdin)
    if done.returncode:
        raise RefusedError(done.stdout + done.stderr)
    return done.stdout


def finished(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """A tool that has run, however it ended."""
    return subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)


def kustomized(folder: Path) -> Rendering:
    return Rendering(name=folder.name, text=run(tool("kustomize"), "build", str(folder)))


def extended(overlay: str, components: Sequence[str], scratch: Path) -> Rendering:
    """An overlay with more components, as an operator would write it down."""
    made = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(OVERLAYS / overlay, scratch)],
        "components": [os.path.relpath(COMPONENTS / name, scratch) for name in components],
    }
    (scratch / "kustomization.yaml").write_text(yaml.safe_dump(made), encoding="utf-8")
    return kustomized(scratch)


def helmed(*files: Path, values: dict | None = None) -> Rendering:
    """The chart's objects, with files of values and then single ones over its defaults."""
    words = [word for file in files for word in ("--values", str(file))]
    given = [
        word for key, value in (values or {}).items() for word in ("--set-json", f"{key}={json.dumps(value)}")
    ]
    text = run(tool("helm"), "template", "togetherchat", str(CHART), "--kube-version", NEWEST, *words, *given)
    return Rendering(name="chart", text=text)


def configuration(
    rendering: Rendering, disk: Path, *, image: Mapping[str, str] = {}, held: Mapping[str, str] = {}
) -> Configuration:
    """What the server makes of the pod, with its volumes laid out below `disk`.

    `image` are variables that the image brings along, `held` what the operator keeps, by the name of the file:
    certificates that can be read, unless it says otherwise.

    Raises:
        SettingsError: the server refuses to start with it.
    """
    words, environment = command_line(rendering, disk, held=held)
    return read_configuration(words, {**image, **environment})


def command_line(
    rendering: Rendering, disk: Path, *, held: Mapping[str, str] = {}
) -> tuple[list[str], dict[str, str]]:
    """The container's words and variables, with its volumes laid out below `disk`."""
    mounts = {mount["name"]: mount["mountPath"] for mount in rendering.container["volumeMounts"]}
    for volume in rendering.pod["volumes"]:
        folder = disk / mounts[volume["name"]].lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in _files(rendering, volume, held).items():
            (folder / name).write_text(_moved(text, mounts, disk), encoding="utf-8")
    words = [_moved(word, mounts, disk) for word in rendering.container["args"]]
    said = rendering.container.get("env", [])
    return words, {it["name"]: _moved(it["value"], mounts, disk) if "value" in it else REDIS for it in said}


@cache
def held_certificates() -> Mapping[str, str]:
    """A certificate, its key and their authority, by the names that the pod's files have."""
    with tempfile.TemporaryDirectory() as folder:
        made = make_certificate(Path(folder))
        certificate, key = (file.read_text("ascii") for file in (made.certificate_file, made.key_file))
    return {"tls.crt": certificate, "tls.key": key, "ca.crt": certificate}


def _files(rendering: Rendering, volume: dict, held: Mapping[str, str]) -> dict[str, str]:
    source = volume.get("configMap") or volume["secret"]
    if "items" in source:  # made by the operator, beforehand
        kept = {**held_certificates(), **held}
        return {item["path"]: kept.get(item["path"], "what-the-operator-keeps\n") for item in source["items"]}
    ours = rendering.one("ConfigMap")
    assert source["name"] == ours["metadata"]["name"]
    return ours["data"]


def _moved(text: str, mounts: Mapping[str, str], disk: Path) -> str:
    for path in mounts.values():
        text = text.replace(path + "/", f"{disk}{path}/")
    return text


def meaning(rendering: Rendering) -> dict[tuple[str, str], dict]:
    """The objects by kind and name, without what tells one renderer from the other.

    Settings are left out, for the ways may say them in flags or in the file: compare `configuration`.
    """
    kept = {}
    for it in rendering.objects:
        if it["kind"] in {"Namespace", "ConfigMap"}:
            continue
        it["metadata"].pop("namespace", None)
        kept[it["kind"], it["metadata"]["name"]] = _plain(it)
    deployment = kept["Deployment", "togetherchat"]
    deployment["spec"].setdefault("replicas", 1)
    pod = deployment["spec"]["template"]["spec"]
    pod["containers"][0].pop("args")
    container = pod["containers"][0]
    for part in (pod["volumes"], container["volumeMounts"], container.get("env", [])):
        part.sort(key=lambda entry: entry["name"])
    next(volume for volume in pod["volumes"] if volume["name"] == "settings")["configMap"].pop("name")
    return kept


def _plain(part: object) -> object:
    if isinstance(part, list):
        return [_plain(entry) for entry in part]
    if not isinstance(part, dict):
        return part
    plain = {key: _plain(value) for key, value in part.items() if key not in RENDERERS_MARKS}
    return {
        key: value for key, value in plain.items() if not (key in {"annotations", "metadata"} and value == {})
    }
