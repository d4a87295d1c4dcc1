"""Eviction of pods, which `kubectl drain` requests."""

import json

import pytest
from cluster import wait_until
from rendered import OVERLAYS, ToolError, kustomized


@pytest.fixture
def with_budget(dev):
    """Two pods with the PodDisruptionBudget of production."""
    budget = kustomized(OVERLAYS / "production").one("PodDisruptionBudget")
    budget["metadata"]["namespace"] = dev.namespace
    dev.scale(2)
    dev.kubectl("apply", "--filename", "-", stdin=json.dumps(budget))
    wait_until("the budget allows a disruption", lambda: 1 == dev.budget()["disruptionsAllowed"])
    yield dev
    dev.kubectl("delete", "poddisruptionbudget", "togetherchat")
    dev.scale(1)


def evict(installation, pod):
    """Request an eviction, as `kubectl drain` does."""
    path = f"/api/v1/namespaces/{installation.namespace}/pods/{pod}"
    metadata = {"name": pod, "namespace": installation.namespace}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    installation.kubectl("create", "--raw", f"{path}/eviction", "--filename", "-", stdin=json.dumps(eviction))


def test_the_budget_allows_one_eviction_at_a_time(with_budget):
    """The second eviction is rejected until the replacement of the first pod is ready."""
    first, second = sorted(with_budget.ready())

    evict(with_budget, first)
    with pytest.raises(ToolError, match="disruption budget"):
        evict(with_budget, second)

    wait_until("the replacement is ready", lambda: 2 == len(with_budget.ready()))
    assert second in with_budget.ready()
