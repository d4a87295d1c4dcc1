"""Emptying a node, which asks for the eviction of its pods."""

import json

import pytest
from cluster import eventually
from rendered import OVERLAYS, RefusedError, kustomized


@pytest.fixture
def guarded(dev):
    """Two pods, with the budget that production has."""
    budget = kustomized(OVERLAYS / "production").one("PodDisruptionBudget")
    budget["metadata"]["namespace"] = dev.namespace
    dev.scale(2)
    dev.kubectl("apply", "--filename", "-", stdin=json.dumps(budget))
    eventually("the budget counts", lambda: 1 == dev.budget()["disruptionsAllowed"])
    yield dev
    dev.kubectl("delete", "poddisruptionbudget", "togetherchat")
    dev.scale(1)


def evict(installation, pod):
    """As `kubectl drain` does it."""
    path = f"/api/v1/namespaces/{installation.namespace}/pods/{pod}"
    metadata = {"name": pod, "namespace": installation.namespace}
    asked = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    installation.kubectl("create", "--raw", f"{path}/eviction", "--filename", "-", stdin=json.dumps(asked))


def test_one_pod_may_be_away_on_purpose_and_no_second(guarded):
    """The first eviction is granted, the second refused while the first pod's successor is not ready."""
    first, second = sorted(guarded.ready())

    evict(guarded, first)
    with pytest.raises(RefusedError, match="disruption budget"):
        evict(guarded, second)

    eventually("the successor is ready", lambda: 2 == len(guarded.ready()))
    assert second in guarded.ready()
