"""Tests of the connections that the NetworkPolicy allows."""

import pytest
from network import CALLER, DNS, NAME, NAMESPACE, PROMETHEUS, PROVIDER, Peer, admits, pod, reaches
from rendered import helmed

PORTS, ADMIN, HEALTH = (50051, 3000), 9464, 50052
PRIVATE = [
    "10.96.0.1",  # a Service of the cluster
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",  # the metadata service of Alibaba Cloud
    "127.0.0.1",
    "169.254.169.254",  # the metadata service of most clouds
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "fd00:ec2::254",  # the metadata service of AWS
    "fd12:3456::1",
    "fe80::1",
]
PUBLIC = ["104.18.0.1", "9.255.255.255", "11.0.0.0", "100.63.0.1", "172.32.0.1", "2606:4700::6812:1"]
# An agent that is not Prometheus, Prometheus' labels elsewhere, our own pod, an address outside of the cluster.
OTHERS = [
    pod("monitoring", {NAME: "grafana"}),
    pod("default", {NAME: "prometheus"}),
    pod("togetherchat", {NAME: "togetherchat"}),
    PROVIDER,
]


@pytest.fixture(params=["production", "chart"])
def policy(request):
    return request.getfixturevalue(request.param).one("NetworkPolicy")


@pytest.mark.parametrize("port", PORTS)
def test_labelled_namespaces_reach_the_ports_of_callers(policy, port):
    """A pod in a namespace with the label may call; every other peer may not, Prometheus included."""
    assert admits(policy, CALLER, port)
    assert [] == [peer for peer in (PROMETHEUS, *OTHERS) if admits(policy, peer, port)]


def test_only_prometheus_reaches_the_admin_port(policy):
    """Neither a caller nor another pod beside Prometheus reaches the port."""
    assert admits(policy, PROMETHEUS, ADMIN)
    assert [] == [peer for peer in (CALLER, *OTHERS) if admits(policy, peer, ADMIN)]


def test_no_pod_reaches_the_health_port(policy):
    """The kubelet's probes come from the node, which needs no rule."""
    assert [] == [peer for peer in (CALLER, PROMETHEUS, *OTHERS) if admits(policy, peer, HEALTH)]


@pytest.mark.parametrize("address", PUBLIC)
def test_the_provider_is_reached_on_443_only(policy, address):
    """Every public address is allowed, on one port."""
    peer = Peer(address=address)

    assert [443] == [port for port in (80, 443, 6379, 6443, 8443) if reaches(policy, peer, port)]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_not_reached(policy, address):
    """Networks that are not public, the metadata services of clouds among them, are excluded."""
    assert not reaches(policy, Peer(address=address), 443)


def test_only_the_dns_of_the_cluster_is_reached(policy):
    """The pods of DNS and NodeLocal DNSCache are reached, by UDP and TCP, and no other resolver."""
    allowed, rejected = (
        (DNS, Peer(address="169.254.20.10")),
        (pod("kube-system", {"k8s-app": "kube-proxy"}), pod("default", DNS.pod), Peer(address="8.8.8.8")),
    )

    for protocol in ("UDP", "TCP"):
        assert all(reaches(policy, peer, 53, protocol) for peer in allowed)
        assert [] == [peer for peer in rejected if reaches(policy, peer, 53, protocol)]


def test_the_address_of_the_provider_can_be_narrowed():
    """With a gateway as the only provider, no other address is reached; an empty list removes the rule."""
    gateway = Peer(address="10.1.2.3")
    narrowed = helmed(values={"networkPolicy.provider": [{"cidr": "10.1.2.3/32"}]}).one("NetworkPolicy")
    none = helmed(values={"networkPolicy.provider": []}).one("NetworkPolicy")

    assert (True, False) == (reaches(narrowed, gateway, 443), reaches(narrowed, PROVIDER, 443))
    assert (False, False) == (reaches(none, gateway, 443), reaches(none, PROVIDER, 443))
    assert reaches(none, DNS, 53, "UDP")


def test_further_rules_are_added_to_the_egress():
    """A rule for Redis opens its port and leaves the others as they were."""
    redis = pod("databases")
    rule = {
        "to": [{"namespaceSelector": {"matchLabels": {NAMESPACE: "databases"}}}],
        "ports": [{"port": 6379, "protocol": "TCP"}],
    }
    added = helmed(values={"networkPolicy.egress": [rule]}).one("NetworkPolicy")

    assert [6379] == [port for port in (443, 6379) if reaches(added, redis, port)]
    assert reaches(added, PROVIDER, 443)


def test_the_labels_of_prometheus_are_values():
    """Another agent in another namespace scrapes, and Prometheus does not any more."""
    values = {
        "networkPolicy.prometheus.namespace": {NAMESPACE: "observability"},
        "networkPolicy.prometheus.pods": {NAME: "alloy"},
    }
    changed = helmed(values=values).one("NetworkPolicy")

    assert admits(changed, pod("observability", {NAME: "alloy"}), ADMIN)
    assert not admits(changed, PROMETHEUS, ADMIN)
