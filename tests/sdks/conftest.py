"""One service for all tests, in an environment that has the clients and not the service."""

import pytest

from support.service_process import serving


@pytest.fixture(scope="session")
def served():
    """It tries nothing again by itself, so that the clients' retries show; its console is described too."""
    words = ("--max-retries", "0", "--sandbox-tokens-per-second", "100", "--log-format", "json", "--console")
    with serving(*words) as service:
        yield service
