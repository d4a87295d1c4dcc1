"""Renders the manifests: their objects, and the settings of the pod in them.

Does not check anything; the tests do.
"""

import json
import os
import re
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
NAMESPACES = {"production": "togetherchat", "dev": "togetherchat-dev"}
NEWEST = "1.37.0"
REDIS = "redis://:a-password@redis.databases:6379/0"
# Labels and annotations that depend on the renderer and do not matter to the cluster.
RENDERER_LABELS = (
    "app.kubernetes.io/instance",
    "app.kubernetes.io/version",
    "app.kubernetes.io/managed-by",
    "helm.sh/chart",
    "checksum/settings",
    "kube-score/ignore",
)


class ToolError(Exception):
    """A tool rejected its input; the message is that of the tool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """The objects of an overlay of kustomize, or of the chart with files of values."""

    name: str
    text: str

    @property
    def objects(self) -> list[dict]:
        return [found for found in yaml.safe_load_all(self.text) if found]

    def one(self, kind: str, name: str = "togetherchat") -> dict:
        """Return the only object of a kind and name; the name of a ConfigMap may end in a hash."""
        named = re.compile(name + (r"(-[a-z0-9]{10})?" if kind == "ConfigMap" else ""))
        found = [it for it in self.objects if it["kind"] == kind and named.fullmatch(it["metadata"]["name"])]
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
    """Return the path in the variable that `make test-deploy` sets, such as KUBE_SCORE; else the name, for the PATH."""
    return os.environ.get(name.upper().replace("-", "_"), name)


def run(*command: str, stdin: str = "") -> str:
    """Run a tool and return its output. Raises ToolError if the exit status is not 0."""
    done = finished(*command, stdin=stdin)
    if done.returncode:
        raise ToolError(done.stdout + done.stderr)
    return done.stdout


def finished(*command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a tool and return its result, whatever its exit status."""
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


def kustomized(folder: Path) -> Rendering:
    return Rendering(name=folder.name, text=run(tool("kustomize"), "build", str(folder)))


def extended(overlay: str, components: Sequence[str], scratch: Path) -> Rendering:
    """Render an overlay with more components, as in an overlay of an operator."""
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAMESPACES[overlay],
        "resources": [os.path.relpath(OVERLAYS / overlay, scratch)],
        "components": [os.path.relpath(COMPONENTS / name, scratch) for name in components],
    }
    (scratch / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
    return kustomized(scratch)


def helmed(*files: Path, values: dict | None = None) -> Rendering:
    """Render the chart with files of values, and then single values, over its defaults."""
    options = [word for file in files for word in ("--values", str(file))]
    options += [
        word for key, value in (values or {}).items() for word in ("--set-json", f"{key}={json.dumps(value)}")
    ]
    text = run(tool("helm"), "template", "togetherchat", str(CHART), "--kube-version", NEWEST, *options)
    return Rendering(name="chart", text=text)


def configuration(
    rendering: Rendering, disk: Path, *, image: Mapping[str, str] = {}, secrets: Mapping[str, str] = {}
) -> Configuration:
    """Parse the pod's configuration with the server's parser, with the volumes written below `disk`.

    `image` has the variables of the image. `secrets` has the content of the operator's files, by file name; the
    default are valid certificates.

    Raises:
        SettingsError: the server would not start with this configuration.
    """
    arguments, environment = command_line(rendering, disk, secrets=secrets)
    return read_configuration(arguments, {**image, **environment})


def command_line(
    rendering: Rendering, disk: Path, *, secrets: Mapping[str, str] = {}
) -> tuple[list[str], dict[str, str]]:
    """Return the container's arguments and variables, with its volumes written below `disk`."""
    mounts = {mount["name"]: mount["mountPath"] for mount in rendering.container["volumeMounts"]}
    for volume in rendering.pod["volumes"]:
        folder = disk / mounts[volume["name"]].lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in _files(rendering, volume, secrets).items():
            (folder / name).write_text(_moved(text, mounts, disk), encoding="utf-8")
    arguments = [_moved(word, mounts, disk) for word in rendering.container["args"]]
    variables = rendering.container.get("env", [])
    return arguments, {
        it["name"]: _moved(it["value"], mounts, disk) if "value" in it else REDIS for it in variables
    }


@cache
def certificate_files() -> Mapping[str, str]:
    """Return a certificate, its key and its authority, by the names of the pod's files."""
    with tempfile.TemporaryDirectory() as folder:
        made = make_certificate(Path(folder))
        certificate, key = (file.read_text("ascii") for file in (made.certificate_file, made.key_file))
    return {"tls.crt": certificate, "tls.key": key, "ca.crt": certificate}


def _files(rendering: Rendering, volume: dict, secrets: Mapping[str, str]) -> dict[str, str]:
    contents = {**certificate_files(), **secrets}
    found = {}
    for source in volume.get("projected", {}).get("sources", [volume]):
        if "serviceAccountToken" in source:
            found[source["serviceAccountToken"]["path"]] = contents.get("token", "a-secret\n")
            continue
        mounted = source.get("configMap") or source["secret"]
        data = _data_of(rendering, mounted)
        for item in mounted.get("items", [{"key": name, "path": name} for name in data]):
            found[item["path"]] = data.get(item["key"]) or contents.get(item["path"], "a-secret\n")
    return found


def _data_of(rendering: Rendering, source: dict) -> dict[str, str]:
    """Return the data of a ConfigMap of the manifests; nothing if the operator creates the object."""
    return next(
        (
            it["data"]
            for it in rendering.objects
            if it["kind"] == "ConfigMap" and it["metadata"]["name"] == source.get("name")
        ),
        {},
    )


def _moved(text: str, mounts: Mapping[str, str], disk: Path) -> str:
    for path in mounts.values():
        text = text.replace(path + "/", f"{disk}{path}/")
    return text


def comparable(rendering: Rendering) -> dict[tuple[str, str], dict]:
    """Return the objects by kind and name, without what differs between renderers.

    Settings are left out, because they may be flags or in the file: compare `configuration` instead.
    """
    settings = rendering.one("ConfigMap")
    objects = {}
    for it in rendering.objects:
        if it["kind"] == "Namespace" or it == settings:
            continue
        it["metadata"].pop("namespace", None)
        if it["kind"] == "ClusterRoleBinding":
            # An object of the cluster: the name that the chart gives it ends in the namespace of the release.
            namespace = it["subjects"][0].pop("namespace")
            it["metadata"]["name"] = it["metadata"]["name"].removesuffix(f"-{namespace}")
        objects[it["kind"], it["metadata"]["name"]] = _plain(it)
    deployment = objects["Deployment", "togetherchat"]
    deployment["spec"].setdefault("replicas", 1)
    pod = deployment["spec"]["template"]["spec"]
    pod["containers"][0].pop("args")
    container = pod["containers"][0]
    for part in (pod["volumes"], container["volumeMounts"], container.get("env", [])):
        part.sort(key=lambda entry: entry["name"])
    next(volume for volume in pod["volumes"] if volume["name"] == "settings")["configMap"].pop("name")
    return objects


def _plain(part: object) -> object:
    if isinstance(part, list):
        return [_plain(entry) for entry in part]
    if not isinstance(part, dict):
        return part
    plain = {key: _plain(value) for key, value in part.items() if key not in RENDERER_LABELS}
    return {
        key: value for key, value in plain.items() if not (key in {"annotations", "metadata"} and value == {})
    }
