"""What a rollout of real pods costs callers, with the client and its service config as they are shipped."""

import json

import pytest
from cluster import calling, eventually
from rendered import OVERLAYS, kustomized


def ways(dev):
    """Through pods' addresses, by DNS; through the address of the Service; and HTTP, which has no second try."""
    return {
        "grpc": {
            "headless": f"dns:///{dev.name('togetherchat-headless')}:50051",
            "service": f"dns:///{dev.name('togetherchat')}:50051",
        },
        "http": f"http://{dev.name('togetherchat')}:3000",
    }


@pytest.fixture
def paced(dev):
    """Two pods, at the pace that production has."""
    pace = {
        "minReadySeconds": kustomized(OVERLAYS / "production").one("Deployment")["spec"]["minReadySeconds"]
    }
    dev.kubectl("patch", "deployment/togetherchat", "--patch", json.dumps({"spec": pace}))
    dev.scale(2)
    yield dev
    dev.kubectl("patch", "deployment/togetherchat", "--patch", '{"spec": {"minReadySeconds": 0}}')


def test_a_rollout_under_load_loses_no_call(paced, figures):
    """Every pod is replaced, and every call of every way is answered in full."""
    dev = paced
    old = dev.ready()
    with calling(**ways(dev)) as callers:
        dev.kubectl("rollout", "restart", "deployment/togetherchat")
        dev.rolled_out()
        eventually("the old pods are gone", lambda: dev.gone(old))
        callers.more()
        seen = callers.ended()

    figures("rollout of 2 pods", seen)
    assert {"headless": [], "service": [], "http": []} == {way: it["lost"] for way, it in seen.items()}
    assert all(seen[way]["streamed"] > 0 for way in ("headless", "service"))
    assert 2 == len(dev.ready() - old)
