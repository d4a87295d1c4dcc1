"""Decides which connections a NetworkPolicy allows, as its API (networking.k8s.io/v1) defines.

Supports the fields that the manifests use, and rejects others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The other end of a connection: a pod with labels, or an address outside the cluster without any."""

    address: str
    namespace: Mapping[str, str] = field(default_factory=dict)
    pod: Mapping[str, str] = field(default_factory=dict)


NAME, NAMESPACE = "app.kubernetes.io/name", "kubernetes.io/metadata.name"


def pod(namespace: str, labels: Mapping[str, str] = {}) -> Peer:
    """Return a pod of a namespace."""
    return Peer(address="10.98.0.7", namespace={NAMESPACE: namespace}, pod=labels)


PROMETHEUS = pod("monitoring", {NAME: "prometheus"})
DNS = pod("kube-system", {"k8s-app": "kube-dns"})
CALLER = Peer(address="10.98.0.8", namespace={"togetherchat-caller": "true"})
PROVIDER = Peer(address="104.18.0.1")


def admits(policy: dict, peer: Peer, port: int) -> bool:
    """Return whether a peer may connect to a TCP port of the pods."""
    assert "Ingress" in policy["spec"]["policyTypes"]
    return any(_allows(rule, rule["from"], peer, port, "TCP") for rule in policy["spec"].get("ingress", []))


def reaches(policy: dict, peer: Peer, port: int, protocol: str = "TCP") -> bool:
    """Return whether the pods may connect to a port of a peer."""
    assert "Egress" in policy["spec"]["policyTypes"]
    return any(_allows(rule, rule["to"], peer, port, protocol) for rule in policy["spec"].get("egress", []))


def _allows(rule: dict, selectors: list[dict], peer: Peer, port: int, protocol: str) -> bool:
    ports = {(it["port"], it.get("protocol", "TCP")) for it in rule["ports"]}
    return (port, protocol) in ports and any(_selects(it, peer) for it in selectors)


def _selects(selector: dict, peer: Peer) -> bool:
    """Return whether one entry of `from` or `to` selects a peer: by its address, or by all of its labels."""
    if "ipBlock" in selector:
        assert {"ipBlock"} == set(selector)
        block = selector["ipBlock"]
        return _contains(block["cidr"], peer) and not any(
            _contains(it, peer) for it in block.get("except", [])
        )
    assert {"namespaceSelector"} <= set(selector) <= {"namespaceSelector", "podSelector"}
    pods = selector.get("podSelector", {"matchLabels": {}})
    return _matches(selector["namespaceSelector"], peer.namespace) and _matches(pods, peer.pod)


def _matches(selector: dict, labels: Mapping[str, str]) -> bool:
    assert {"matchLabels"} == set(selector)
    return selector["matchLabels"].items() <= labels.items()


def _contains(network: str, peer: Peer) -> bool:
    return ip_address(peer.address) in ip_network(network)
