"""The production overlay, deployed by the commands of the guide: Secrets, keys, TLS, scaling.

The provider is simulated.
"""

import json
import os
import re

import pytest
import yaml
from cluster import Installation, paste, wait_until
from conftest import blocks
from rendered import ROOT, ToolError, run

DEPLOY, CALL = (text for text in blocks("Production") if "kubectl" in text)
(CHANGE,) = (text for text in blocks("Keys and certificates") if "keys revoke" in text)
NAMES = ("togetherchat-headless.togetherchat.svc.cluster.local", "togetherchat.togetherchat.svc")
# Changes for a machine that has two cores for three pods, and no provider.
PATCH = [
    {"op": "replace", "path": "/spec/template/spec/containers/0/resources/requests/cpu", "value": "100m"},
    {"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--sandbox"},
]


def make_certificate(folder):
    """Make a certificate by the commands of docs/tls.md, for the DNS names of the Services."""
    section = (ROOT / "docs/tls.md").read_text("utf-8").partition("## Trying it\n")[2]
    lines = re.search(r"```sh\n(.*?)```", section, re.DOTALL)[1]
    paste(lines.replace("DNS:localhost,IP:127.0.0.1", ",".join(f"DNS:{name}" for name in NAMES)), folder)
    (folder / "ca.pem").rename(folder / "ca.crt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The working folder of an operator: folders of the checkout, and an overlay of the operator."""
    folder = tmp_path_factory.mktemp("operator")
    for name in ("deploy", "protos"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "mine").mkdir()
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(ROOT / "deploy/kustomize/overlays/production", folder / "mine")],
        "patches": [{"target": {"kind": "Deployment"}, "patch": json.dumps(PATCH)}],
    }
    (folder / "mine/kustomization.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def production(folder):
    """The installation that the commands create, with the placeholders filled in."""
    make_certificate(folder)
    lines = DEPLOY.replace("<callers>", "default").replace("<your overlay>", "mine")
    paste(lines, folder, typed="the-key-of-the-provider\n")
    installation = Installation(namespace="togetherchat")
    yield installation
    paste("kubectl delete --kustomize mine", folder)


def test_the_autoscaler_keeps_its_minimum_of_pods(production):
    """Three pods are ready, and their unprivileged user can read the Secrets."""
    wait_until("three pods are ready", lambda: 3 == len(production.ready()))

    assert {0} == {it["status"]["containerStatuses"][0]["restartCount"] for it in production.pods().values()}


def test_a_call_with_a_key_over_tls_succeeds(production, folder):
    """The commands of the guide work: port-forward, grpcurl with the descriptor set, curl."""
    wait_until("a pod is ready", production.ready)

    output = paste(CALL, folder)

    assert "FINISH_REASON_STOP" in output
    assert '"object":"list"' in output


def list_models(folder, *words):
    """Call ListModels at the headless Service and return the output of grpcurl."""
    words = ["-cacert", str(folder / "ca.crt"), "-protoset", str(ROOT / "protos/togetherchat.binpb"), *words]
    return run("grpcurl", *words, "-d", "{}", f"{NAMES[0]}:50051", "togetherchat.v1.ChatService/ListModels")


def list_models_with_key(folder, key):
    """Call ListModels with the key in a file and return the output or the error."""
    try:
        return list_models(folder, "-H", f"authorization: Bearer {(folder / key).read_text('ascii').strip()}")
    except ToolError as exc:
        return str(exc)


def test_a_call_without_a_key_is_rejected(production, folder):
    """The certificate is valid, but the key is missing."""
    wait_until("a pod is ready", production.ready)

    with pytest.raises(ToolError, match="MISSING_CREDENTIALS"):
        list_models(folder)


def test_keys_change_without_a_restart(production, folder):
    """The commands of the guide change the Secret, and the running pods use the new keys."""
    wait_until("a pod is ready", production.ready)
    before = list_models_with_key(folder, "acme.key")

    paste(CHANGE, folder)
    wait_until(
        "the old key is rejected", lambda: "INVALID_CREDENTIALS" in list_models_with_key(folder, "acme.key")
    )
    wait_until("the new key is accepted", lambda: '"models"' in list_models_with_key(folder, "acme-2.key"))

    assert '"models"' in before
    assert {0} == {it["status"]["containerStatuses"][0]["restartCount"] for it in production.pods().values()}


def test_the_guide_creates_a_prometheus_rule(production, folder):
    """The operator's schema accepts the alerts that the command of the guide wraps."""
    (line,) = blocks("Monitoring")

    assert "prometheusrule.monitoring.coreos.com/togetherchat created" in paste(line, folder)
