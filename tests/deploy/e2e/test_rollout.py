"""A rollout of real pods under load, with the released client and its service config."""

import json

import pytest
from cluster import calling, wait_until
from rendered import OVERLAYS, kustomized


def paths(dev):
    """gRPC to the pods' addresses by DNS, gRPC to the address of the Service, and HTTP, which has no retries."""
    return {
        "grpc": {
            "headless": f"dns:///{dev.dns_name('togetherchat-headless')}:50051",
            "service": f"dns:///{dev.dns_name('togetherchat')}:50051",
        },
        "http": f"http://{dev.dns_name('togetherchat')}:3000",
    }


@pytest.fixture
def dev_at_production_pace(dev):
    """Two pods, with `minReadySeconds` of production."""
    pace = {
        "minReadySeconds": kustomized(OVERLAYS / "production").one("Deployment")["spec"]["minReadySeconds"]
    }
    dev.kubectl("patch", "deployment/togetherchat", "--patch", json.dumps({"spec": pace}))
    dev.scale(2)
    yield dev
    dev.kubectl("patch", "deployment/togetherchat", "--patch", '{"spec": {"minReadySeconds": 0}}')


def test_a_rollout_under_load_loses_no_call(dev_at_production_pace, report_calls):
    """Every pod is replaced, and every call on every path completes."""
    dev = dev_at_production_pace
    old = dev.ready()
    with calling(**paths(dev)) as callers:
        dev.kubectl("rollout", "restart", "deployment/togetherchat")
        dev.wait_for_rollout()
        wait_until("the old pods are gone", lambda: dev.gone(old))
        callers.more()
        results = callers.finish()

    report_calls("rollout of 2 pods", results)
    assert {"headless": [], "service": [], "http": []} == {path: it["lost"] for path, it in results.items()}
    assert all(results[path]["streamed"] > 0 for path in ("headless", "service"))
    assert 2 == len(dev.ready() - old)
