"""One service process for all tests. Their environment has agents and hosts of programs, not the service."""

import pytest

from support.service_process import serving


@pytest.fixture(scope="session")
def served():
    """A service without retries, whose sandbox sends 50 tokens a second."""
    with serving("--max-retries", "0", "--sandbox-tokens-per-second", "50") as service:
        yield service
