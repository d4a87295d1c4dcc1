"""The objects against a real API server, which checks more than a schema can."""

import copy
import json

import pytest
from cluster import kubectl, wait_until
from cluster import objects as existing
from rendered import CHART, OVERLAYS, ToolError, extended, helmed, kustomized

RENDERINGS = {
    "dev": lambda scratch: kustomized(OVERLAYS / "dev"),
    "production": lambda scratch: kustomized(OVERLAYS / "production"),
    "production-complete": lambda scratch: extended(
        "production", ["redis", "mtls", "service-accounts"], scratch
    ),
    "dev-without-keys": lambda scratch: extended("dev", ["tenants", "service-accounts"], scratch),
    "chart": lambda scratch: helmed(),
    "chart-dev": lambda scratch: helmed(CHART / "values-dev.yaml"),
    "chart-service-accounts": lambda scratch: helmed(values={"serviceAccounts.enabled": True}),
}


@pytest.fixture(params=RENDERINGS)
def rendering(request, tmp_path):
    return RENDERINGS[request.param](tmp_path), request.param


@pytest.fixture(scope="module")
def restricted():
    """A namespace that enforces the pod security profile `restricted`, with the account that pods may name."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "restricted", "labels": labels}})
    account = {"name": "togetherchat", "namespace": "restricted"}
    apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    wait_until(
        "the namespace has its default service account",
        lambda: 1 < len(existing("serviceaccounts", "--namespace", "restricted")),
    )
    return "restricted"


def without_pods(name):
    """Create a namespace whose quota allows no pods."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "no-pods", "namespace": name}}
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    apply({**quota, "spec": {"hard": {"pods": "0"}}})
    return name


def as_list(*objects):
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def apply(*objects):
    """Apply on the server side, which rejects unknown fields."""
    return kubectl("apply", "--server-side", "--validate=strict", "--filename", "-", stdin=as_list(*objects))


def in_namespace(rendering, namespace):
    """The objects of a rendering, moved to a namespace."""
    objects = [it for it in copy.deepcopy(rendering.objects) if it["kind"] != "Namespace"]
    for it in objects:
        if it["kind"] != "ClusterRoleBinding":
            it["metadata"]["namespace"] = namespace
    return objects


def pod_of(rendering, namespace):
    """The pod that the Deployment's controller would create."""
    template = copy.deepcopy(rendering.one("Deployment")["spec"]["template"])
    metadata = {**template["metadata"], "name": "dry-run", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", **template, "metadata": metadata}


def dry_run(pod):
    """Return the pod that the server would create."""
    words = ("create", "--dry-run=server", "--validate=strict", "--output", "json", "--filename", "-")
    return json.loads(kubectl(*words, stdin=json.dumps(pod)))


def test_the_server_accepts_every_object(rendering):
    """Every object passes strict field validation, and a second apply would change nothing."""
    rendered, name = rendering
    objects = in_namespace(rendered, without_pods(f"objects-{name}"))

    output = apply(*objects)
    changed = kubectl("diff", "--server-side", "--filename", "-", stdin=as_list(*objects))

    assert len(objects) == output.count("serverside-applied")
    assert "" == changed


def test_a_restricted_namespace_admits_the_pod(rendering, restricted):
    """The pod passes pod security admission with the profile `restricted`."""
    rendered, _ = rendering

    pod = dry_run(pod_of(rendered, restricted))

    assert "Pending" == pod["status"]["phase"]
    assert "Burstable" == pod["status"]["qosClass"]


def test_a_restricted_namespace_rejects_a_pod_with_a_capability(restricted):
    """The previous test can fail: admission rejects a pod that adds NET_ADMIN."""
    pod = pod_of(kustomized(OVERLAYS / "dev"), restricted)
    pod["spec"]["containers"][0]["securityContext"]["capabilities"] = {"add": ["NET_ADMIN"]}

    with pytest.raises(ToolError, match="violates PodSecurity"):
        dry_run(pod)


def test_production_can_be_applied_over_dev():
    """Both overlays have the same selectors, which cannot change."""
    namespace = without_pods("in-place")
    apply(*in_namespace(kustomized(OVERLAYS / "dev"), namespace))

    apply(*in_namespace(kustomized(OVERLAYS / "production"), namespace))

    (deployment,) = existing("deployments", "--namespace", namespace)
    assert "--sandbox" not in deployment["spec"]["template"]["spec"]["containers"][0]["args"]
