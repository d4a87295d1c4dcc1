"""What the cluster is told, by its schemas and by what we promise of it."""

import kubernetes_validate
import pytest
from rendered import Rendering

# The last three, and the oldest that the chart says it takes.
VERSIONS = ["1.37", "1.36", "1.35", "1.29"]
# Kinds of the Prometheus operator, whose schemas come with it and not with Kubernetes.
FOREIGN = {"ServiceMonitor"}
SERVICE = "togetherchat.v1.ChatService"


@pytest.mark.parametrize("version", VERSIONS)
def test_objects_are_valid(rendering, version):
    """Every object fits Kubernetes' own schema, without a field that it does not know."""
    for it in rendering.objects:
        if it["kind"] not in FOREIGN:
            kubernetes_validate.validate(it, version, strict=True)


def test_the_schemas_reject_a_misspelt_field(dev):
    """The check above is none that lets everything pass."""
    deployment = dev.one("Deployment")
    deployment["spec"]["strateggy"] = {}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[0], strict=True)


def test_nobody_is_root_and_nothing_can_be_written(rendering):
    """Non-root by number, no capability, the default seccomp profile, a root that is read-only, no token."""
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


def test_probes_are_native_and_ask_the_plaintext_listener(rendering):
    """All three by gRPC: being alive is about the process, being ready about the service."""
    probes = {name: rendering.container[name]["grpc"] for name in _probes(rendering)}
    (port,) = (it["containerPort"] for it in rendering.container["ports"] if it["name"] == "health")

    assert {
        "startupProbe": {"port": port},
        "livenessProbe": {"port": port},
        "readinessProbe": {"port": port, "service": SERVICE},
    } == probes


def test_a_rollout_takes_no_pod_away_before_its_successor_serves(rendering):
    """One more, never one less."""
    rolling = rendering.one("Deployment")["spec"]["strategy"]["rollingUpdate"]

    assert {"maxSurge": 1, "maxUnavailable": 0} == rolling


def test_pods_are_spread_over_zones_and_nodes(rendering):
    """Each of the two by preference."""
    spread = {it["topologyKey"]: it["whenUnsatisfiable"] for it in rendering.pod["topologySpreadConstraints"]}

    assert {
        "topology.kubernetes.io/zone": "ScheduleAnyway",
        "kubernetes.io/hostname": "ScheduleAnyway",
    } == spread


def test_a_name_resolves_to_every_pod(rendering):
    """The headless Service, for clients that balance; what it selects are the Deployment's pods."""
    service = rendering.one("Service", "togetherchat-headless")
    labels = rendering.one("Deployment")["spec"]["template"]["metadata"]["labels"]

    assert "None" == service["spec"]["clusterIP"]
    assert service["spec"]["selector"].items() <= labels.items()


def test_the_monitor_scrapes_a_port_that_is_there(production, chart):
    """Its port is one of exactly one Service, so that no pod is scraped twice."""
    for rendering in (production, chart):
        (endpoint,) = rendering.one("ServiceMonitor")["spec"]["endpoints"]
        ports = [
            port["name"]
            for it in rendering.objects
            if it["kind"] == "Service"
            for port in it["spec"]["ports"]
        ]

        assert 1 == ports.count(endpoint["port"])


def test_a_changed_setting_is_a_rollout(production, chart):
    """The pod's template depends on the settings: by the name of their object, or by a checksum."""
    settings = production.one("ConfigMap")["metadata"]["name"]
    annotations = chart.one("Deployment")["spec"]["template"]["metadata"]["annotations"]

    assert settings.removeprefix("togetherchat-").isalnum()
    assert 64 == len(annotations["checksum/settings"])


def test_callers_and_the_scraper_get_in_and_the_provider_is_reached(production):
    """In: calls from labelled namespaces, metrics from monitoring. Out: names and HTTPS. Nothing else."""
    policy = production.one("NetworkPolicy")["spec"]

    assert [[50051, 3000], [9464]] == [[port["port"] for port in rule["ports"]] for rule in policy["ingress"]]
    assert [[53, 53], [443]] == [[port["port"] for port in rule["ports"]] for rule in policy["egress"]]
    assert all("namespaceSelector" in peer for rule in policy["ingress"] for peer in rule["from"])
    assert "169.254.0.0/16" in policy["egress"][1]["to"][0]["ipBlock"]["except"]


def test_replicas_are_the_autoscalers_business(production, chart):
    """To apply the manifests again does not undo what it did."""
    for rendering in (production, chart):
        assert "replicas" not in rendering.one("Deployment")["spec"]
        assert "Deployment" == rendering.one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["kind"]


def _probes(rendering: Rendering) -> list[str]:
    return [name for name in rendering.container if name.endswith("Probe")]
