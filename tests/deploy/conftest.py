"""Renderings are made once: each takes a tool half a second."""

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
    """Each of the ways to an installation."""
    return request.getfixturevalue(request.param)
