"""The production overlay by the lines of the guide: Secrets, keys, TLS, scaling; the provider is simulated."""

import json
import os
import re

import pytest
import yaml
from cluster import Installation, eventually, pasted
from conftest import blocks
from rendered import ROOT, RefusedError, run

DEPLOY, CALL = (text for text in blocks("Production") if "kubectl" in text)
(CHANGE,) = (text for text in blocks("Keys and certificates") if "keys revoke" in text)
NAMES = ("togetherchat-headless.togetherchat.svc.cluster.local", "togetherchat.togetherchat.svc")
# Of a machine that has two cores for three pods, and no provider.
OURS = [
    {"op": "replace", "path": "/spec/template/spec/containers/0/resources/requests/cpu", "value": "100m"},
    {"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--sandbox"},
]


def certified(folder):
    """A certificate by the lines of docs/tls.md, for the names of the Services."""
    page = (ROOT / "docs/tls.md").read_text("utf-8").partition("## Trying it\n")[2]
    lines = re.search(r"```sh\n(.*?)```", page, re.DOTALL)[1]
    pasted(lines.replace("DNS:localhost,IP:127.0.0.1", ",".join(f"DNS:{name}" for name in NAMES)), folder)
    (folder / "ca.pem").rename(folder / "ca.crt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the operator stands: beside the checkout's folders, with an overlay of their own."""
    folder = tmp_path_factory.mktemp("operator")
    for name in ("deploy", "protos"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "mine").mkdir()
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(ROOT / "deploy/kustomize/overlays/production", folder / "mine")],
        "patches": [{"target": {"kind": "Deployment"}, "patch": json.dumps(OURS)}],
    }
    (folder / "mine/kustomization.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def production(folder):
    """What the lines bring about, with what is the operator's filled in."""
    certified(folder)
    lines = DEPLOY.replace("<callers>", "default").replace("<your overlay>", "mine")
    pasted(lines, folder, typed="the-key-of-the-provider\n")
    installation = Installation(namespace="togetherchat")
    yield installation
    pasted("kubectl delete --kustomize mine", folder)


def test_the_autoscaler_sees_to_its_least_number_of_pods(production):
    """Each of them is ready, with Secrets that a user without rights can read."""
    eventually("three pods", lambda: 3 == len(production.ready()))

    assert {0} == {it["status"]["containerStatuses"][0]["restartCount"] for it in production.pods().values()}


def test_a_caller_with_a_key_is_answered_over_tls(production, folder):
    """By the guide's lines, from outside: port-forward, grpcurl with the descriptors, curl."""
    eventually("a pod", production.ready)

    said = pasted(CALL, folder)

    assert "FINISH_REASON_STOP" in said
    assert '"object":"list"' in said


def listed(folder, *words):
    """What a caller of the headless Service hears who asks for the models."""
    words = ["-cacert", str(folder / "ca.crt"), "-protoset", str(ROOT / "protos/togetherchat.binpb"), *words]
    return run("grpcurl", *words, "-d", "{}", f"{NAMES[0]}:50051", "togetherchat.v1.ChatService/ListModels")


def heard(folder, key):
    """What a caller with the key of a file hears."""
    try:
        return listed(folder, "-H", f"authorization: Bearer {(folder / key).read_text('ascii').strip()}")
    except RefusedError as exc:
        return str(exc)


def test_a_caller_without_a_key_is_refused(production, folder):
    """The certificate is right, the key is missing."""
    eventually("a pod", production.ready)

    with pytest.raises(RefusedError, match="MISSING_CREDENTIALS"):
        listed(folder)


def test_keys_change_without_a_restart(production, folder):
    """By the guide's lines: the kubelet brings the changed Secret, and the pods read it."""
    eventually("a pod", production.ready)
    before = heard(folder, "acme.key")

    pasted(CHANGE, folder)
    eventually("the old key is known no more", lambda: "INVALID_CREDENTIALS" in heard(folder, "acme.key"))
    eventually("the new key is known", lambda: '"models"' in heard(folder, "acme-2.key"))

    assert '"models"' in before
    assert {0} == {it["status"]["containerStatuses"][0]["restartCount"] for it in production.pods().values()}


def test_the_alerts_are_taken_as_an_object_of_the_operator(production, folder):
    """By the guide's line, and by the operator's own schema."""
    (line,) = blocks("Watching")

    assert "prometheusrule.monitoring.coreos.com/togetherchat created" in pasted(line, folder)
