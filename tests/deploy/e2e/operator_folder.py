"""The working folder of an operator who deploys the production overlay by the commands of the guide.

The provider is simulated.
"""

import json
import re
from pathlib import Path

import yaml
from cluster import paste
from guide import blocks
from rendered import ROOT, ToolError, run

DEPLOY, CALL = (text for text in blocks("Production") if "kubectl" in text)
NAMES = ("togetherchat-headless.togetherchat.svc.cluster.local", "togetherchat.togetherchat.svc")
# Changes for a machine that has two cores for three pods, no provider, and no clients that cache addresses.
PATCHES = [
    {"op": "replace", "path": "/spec/template/spec/containers/0/resources/requests/cpu", "value": "100m"},
    {"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--sandbox"},
    {"op": "replace", "path": "/spec/minReadySeconds", "value": 0},
]


def make_folder(folder: Path) -> None:
    """Write a certificate, and an overlay named `mine` beside links to the checkout."""
    for name in ("deploy", "protos"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "togetherchat").symlink_to(ROOT)
    (folder / "mine").mkdir()
    write_overlay(folder, {})
    _make_certificate(folder)


def write_overlay(folder: Path, example: dict) -> None:
    """Write the overlay, with the parts of an example of the guide."""
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../togetherchat/deploy/kustomize/overlays/production"],
        **example,
        "patches": [
            {"target": {"kind": "Deployment"}, "patch": json.dumps(PATCHES)},
            *example.get("patches", []),
        ],
    }
    (folder / "mine/kustomization.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")


def deploy(folder: Path) -> None:
    """Run the commands of the guide, with the placeholders filled in."""
    lines = DEPLOY.replace("<callers>", "default").replace("<your overlay>", "mine")
    paste(lines, folder, typed="the-key-of-the-provider\n")


def list_models(folder: Path, *words: str) -> str:
    """Call ListModels at the headless Service and return the output of grpcurl."""
    words = ("-cacert", str(folder / "ca.crt"), "-protoset", str(ROOT / "protos/togetherchat.binpb"), *words)
    return run("grpcurl", *words, "-d", "{}", f"{NAMES[0]}:50051", "togetherchat.v1.ChatService/ListModels")


def list_models_as(folder: Path, credential: str) -> str:
    """Call ListModels with a key or a token, and return the output or the error."""
    try:
        return list_models(folder, "-H", f"authorization: Bearer {credential}")
    except ToolError as exc:
        return str(exc)


def _make_certificate(folder: Path) -> None:
    """Make a certificate by the commands of docs/tls.md, for the DNS names of the Services."""
    section = (ROOT / "docs/tls.md").read_text("utf-8").partition("## Trying it\n")[2]
    lines = re.search(r"```sh\n(.*?)```", section, re.DOTALL)[1]
    paste(lines.replace("DNS:localhost,IP:127.0.0.1", ",".join(f"DNS:{name}" for name in NAMES)), folder)
    (folder / "ca.pem").rename(folder / "ca.crt")
