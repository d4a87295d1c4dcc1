"""Renderings of the manifests, made once: each takes half a second."""

import pytest
from rendered import CHART, OVERLAYS, helmed, kustomized


@pytest.fixture(scope="session")
def production():
    return kustomized(OVERLAYS / "production")


@pytest.fixture(scope="session")
def dev():
    return kustomized(OVERLAYS / "dev")


@pytest.fixture(scope="session")
def chart():
    return helmed()


@pytest.fixture(scope="session")
def chart_dev():
    return helmed(CHART / "values-dev.yaml")


@pytest.fixture(scope="session", params=["production", "dev", "chart", "chart_dev"])
def rendering(request):
    """Each overlay, and the chart with each file of values."""
    return request.getfixturevalue(request.param)
