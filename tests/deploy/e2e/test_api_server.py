"""What a real API server says of the objects: it checks what no schema can say."""

import copy
import json

import pytest
from cluster import eventually, kubectl
from cluster import objects as found
from rendered import CHART, OVERLAYS, RefusedError, extended, helmed, kustomized

RENDERINGS = {
    "dev": lambda scratch: kustomized(OVERLAYS / "dev"),
    "production": lambda scratch: kustomized(OVERLAYS / "production"),
    "production-complete": lambda scratch: extended("production", ["redis", "mtls"], scratch),
    "chart": lambda scratch: helmed(),
    "chart-dev": lambda scratch: helmed(CHART / "values-dev.yaml"),
}


@pytest.fixture(params=RENDERINGS)
def rendering(request, tmp_path):
    return RENDERINGS[request.param](tmp_path), request.param


@pytest.fixture(scope="module")
def restricted():
    """A namespace that lets in what the strictest of the standard profiles lets in."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "restricted", "labels": labels}})
    eventually("it has an account for pods", lambda: found("serviceaccounts", "--namespace", "restricted"))
    return "restricted"


def unpopulated(name):
    """A namespace that takes objects, and in which no pod comes to be."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "no-pods", "namespace": name}}
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    apply({**quota, "spec": {"hard": {"pods": "0"}}})
    return name


def as_list(*objects):
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def apply(*objects):
    """Apply as the server does it, refusing fields that it does not know."""
    return kubectl("apply", "--server-side", "--validate=strict", "--filename", "-", stdin=as_list(*objects))


def placed(rendering, namespace):
    """The objects, in a namespace of the test's."""
    objects = [it for it in copy.deepcopy(rendering.objects) if it["kind"] != "Namespace"]
    for it in objects:
        it["metadata"]["namespace"] = namespace
    return objects


def pod_of(rendering, namespace):
    """The pod that the Deployment's controller would make."""
    template = copy.deepcopy(rendering.one("Deployment")["spec"]["template"])
    metadata = {**template["metadata"], "name": "made-by-hand", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", **template, "metadata": metadata}


def tried(pod):
    """What the server would make of a pod."""
    words = ("create", "--dry-run=server", "--validate=strict", "--output", "json", "--filename", "-")
    return json.loads(kubectl(*words, stdin=json.dumps(pod)))


def test_every_object_is_taken(rendering):
    """Applied with strict fields; and applied again, as every upgrade does, it would change nothing."""
    rendered, name = rendering
    objects = placed(rendered, unpopulated(f"objects-{name}"))

    said = apply(*objects)
    changed = kubectl("diff", "--server-side", "--filename", "-", stdin=as_list(*objects))

    assert len(objects) == said.count("serverside-applied")
    assert "" == changed


def test_the_pod_is_let_into_a_restricted_namespace(rendering, restricted):
    """Pod security admission, which only a server has, enforces the profile `restricted`."""
    rendered, _ = rendering

    pod = tried(pod_of(rendered, restricted))

    assert "Pending" == pod["status"]["phase"]
    assert "Burstable" == pod["status"]["qosClass"]


def test_a_pod_with_rights_is_not(restricted):
    """The check above is none that lets everything pass."""
    pod = pod_of(kustomized(OVERLAYS / "dev"), restricted)
    pod["spec"]["containers"][0]["securityContext"]["capabilities"] = {"add": ["NET_ADMIN"]}

    with pytest.raises(RefusedError, match="violates PodSecurity"):
        tried(pod)


def test_dev_becomes_production_in_place():
    """Selectors, which can never change, are the same: an overlay can be applied over another."""
    namespace = unpopulated("in-place")
    apply(*placed(kustomized(OVERLAYS / "dev"), namespace))

    apply(*placed(kustomized(OVERLAYS / "production"), namespace))

    (deployment,) = found("deployments", "--namespace", namespace)
    assert "--sandbox" not in deployment["spec"]["template"]["spec"]["containers"][0]["args"]
