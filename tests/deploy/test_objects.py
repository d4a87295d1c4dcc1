"""Tests of the rendered objects against the schemas of Kubernetes and our own guarantees."""

import kubernetes_validate
import pytest
from rendered import Rendering

# The last three versions, and the oldest that the chart supports.
VERSIONS = ["1.37", "1.36", "1.35", "1.29"]
# Kinds of the Prometheus operator, whose schemas are not part of Kubernetes.
OPERATOR_KINDS = {"ServiceMonitor"}
SERVICE = "togetherchat.v1.ChatService"


@pytest.mark.parametrize("version", VERSIONS)
def test_objects_match_the_schemas_of_kubernetes(rendering, version):
    """Every object matches the schema of its kind, without unknown fields."""
    for it in rendering.objects:
        if it["kind"] not in OPERATOR_KINDS:
            kubernetes_validate.validate(it, version, strict=True)


def test_the_schemas_reject_a_misspelt_field(dev):
    """The test above can fail."""
    deployment = dev.one("Deployment")
    deployment["spec"]["strateggy"] = {}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[0], strict=True)


def test_the_pod_is_unprivileged(rendering):
    """The pod has a numeric non-root user, no capabilities, the default seccomp profile, a read-only root and no token."""
    pod, container = rendering.pod, rendering.container

    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] >= 10_000
    assert {"type": "RuntimeDefault"} == pod["securityContext"]["seccompProfile"]
    assert {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    } == container["securityContext"]
    assert {"memory", "ephemeral-storage"} == set(container["resources"]["limits"])


def test_probes_call_the_grpc_health_service_on_the_plaintext_listener(rendering):
    """All probes use gRPC: startup and liveness check the process, readiness checks the service."""
    probes = {name: rendering.container[name]["grpc"] for name in _probes(rendering)}
    (port,) = (it["containerPort"] for it in rendering.container["ports"] if it["name"] == "health")

    assert {
        "startupProbe": {"port": port},
        "livenessProbe": {"port": port},
        "readinessProbe": {"port": port, "service": SERVICE},
    } == probes


def test_a_rollout_stops_a_pod_only_after_its_successor_is_ready(rendering):
    """A rollout has one pod more, and never one less."""
    rolling = rendering.one("Deployment")["spec"]["strategy"]["rollingUpdate"]

    assert {"maxSurge": 1, "maxUnavailable": 0} == rolling


def test_pods_are_spread_over_zones_and_nodes(rendering):
    """Both spread constraints are preferences."""
    spread = {it["topologyKey"]: it["whenUnsatisfiable"] for it in rendering.pod["topologySpreadConstraints"]}

    assert {
        "topology.kubernetes.io/zone": "ScheduleAnyway",
        "kubernetes.io/hostname": "ScheduleAnyway",
    } == spread


def test_the_headless_service_selects_every_pod(rendering):
    """The name of the headless Service resolves to the pods of the Deployment."""
    service = rendering.one("Service", "togetherchat-headless")
    labels = rendering.one("Deployment")["spec"]["template"]["metadata"]["labels"]

    assert "None" == service["spec"]["clusterIP"]
    assert service["spec"]["selector"].items() <= labels.items()


def test_the_monitor_scrapes_a_port_of_one_service(production, chart):
    """Exactly one Service has the port, so that no pod is scraped twice."""
    for rendering in (production, chart):
        (endpoint,) = rendering.one("ServiceMonitor")["spec"]["endpoints"]
        ports = [
            port["name"]
            for it in rendering.objects
            if it["kind"] == "Service"
            for port in it["spec"]["ports"]
        ]

        assert 1 == ports.count(endpoint["port"])


def test_a_changed_setting_starts_a_rollout(production, chart):
    """The pod template contains a hash of the settings: in the name of the ConfigMap, or as a checksum."""
    settings = production.one("ConfigMap")["metadata"]["name"]
    annotations = chart.one("Deployment")["spec"]["template"]["metadata"]["annotations"]

    assert settings.removeprefix("togetherchat-").isalnum()
    assert 64 == len(annotations["checksum/settings"])


def test_only_the_autoscaler_sets_replicas(production, chart):
    """Applying the manifests again does not reset the number of pods."""
    for rendering in (production, chart):
        assert "replicas" not in rendering.one("Deployment")["spec"]
        assert "Deployment" == rendering.one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["kind"]


def _probes(rendering: Rendering) -> list[str]:
    return [name for name in rendering.container if name.endswith("Probe")]
