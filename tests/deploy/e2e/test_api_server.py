"""What a real API server says of the objects: it checks what no schema can say."""

import copy

import pytest
from api_server import RefusedError, api_server
from rendered import CHART, OVERLAYS, extended, helmed, kustomized

# Its kind comes with the Prometheus operator, which is not there.
FOREIGN = {"ServiceMonitor"}


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    with api_server(tmp_path_factory.mktemp("kubernetes")) as serving:
        yield serving


def namespace_of(name):
    """A namespace that lets in what the strictest of the standard profiles lets in."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def apply_all(api, rendering, namespace):
    """Apply everything to a namespace; the answers by kind and name."""
    api.apply(namespace_of(namespace))
    answers = {}
    for it in copy.deepcopy(rendering.objects):
        if it["kind"] not in FOREIGN | {"Namespace"}:
            it["metadata"]["namespace"] = namespace
            answers[it["kind"], it["metadata"]["name"]] = api.apply(it, namespace=namespace)
    return answers


def pod_of(rendering, namespace):
    """The pod that the Deployment's controller would make."""
    template = copy.deepcopy(rendering.one("Deployment")["spec"]["template"])
    metadata = {**template["metadata"], "name": "made-by-hand", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", **template, "metadata": metadata}


RENDERINGS = {
    "dev": lambda scratch: kustomized(OVERLAYS / "dev"),
    "production": lambda scratch: kustomized(OVERLAYS / "production"),
    "production-complete": lambda scratch: extended("production", ["keys", "tls", "mtls"], scratch),
    "chart": lambda scratch: helmed(),
    "chart-dev": lambda scratch: helmed(CHART / "values-dev.yaml"),
}


@pytest.fixture(params=RENDERINGS)
def rendering(request, tmp_path):
    return RENDERINGS[request.param](tmp_path), request.param


def test_every_object_is_taken(api, rendering):
    """Applied with strict fields; and applied again, as every upgrade does, it changes nothing."""
    rendered, name = rendering
    first = apply_all(api, rendered, f"objects-{name}")

    again = apply_all(api, rendered, f"objects-{name}")

    assert len(first) >= 4
    assert {key: it["metadata"].get("generation") for key, it in first.items()} == {
        key: it["metadata"].get("generation") for key, it in again.items()
    }


def test_the_pod_is_let_into_a_restricted_namespace(api, rendering):
    """Pod security admission, which only a server has, enforces the profile `restricted`."""
    rendered, name = rendering
    api.apply(namespace_of(f"pods-{name}"))

    pod = api.apply(pod_of(rendered, f"pods-{name}"), namespace=f"pods-{name}")

    assert "Pending" == pod["status"]["phase"]
    assert "Burstable" == pod["status"]["qosClass"]


def test_a_pod_with_rights_is_not(api):
    """The check above is none that lets everything pass."""
    api.apply(namespace_of("guarded"))
    pod = pod_of(kustomized(OVERLAYS / "dev"), "guarded")
    pod["spec"]["containers"][0]["securityContext"]["capabilities"] = {"add": ["NET_ADMIN"]}

    with pytest.raises(RefusedError, match="violates PodSecurity"):
        api.apply(pod, namespace="guarded")


def test_dev_becomes_production_in_place(api):
    """Selectors, which can never change, are the same: an overlay can be applied over another."""
    apply_all(api, kustomized(OVERLAYS / "dev"), "in-place")

    answers = apply_all(api, kustomized(OVERLAYS / "production"), "in-place")

    assert 2 == answers["Deployment", "togetherchat"]["metadata"]["generation"]
