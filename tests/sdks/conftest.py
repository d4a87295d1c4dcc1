"""One service process for all tests. Their environment has the clients, not the service."""

import pytest

from support.service_process import serving


@pytest.fixture(scope="session")
def served():
    """A service without retries, so that the clients' retries are visible, and with the console."""
    flags = ("--max-retries", "0", "--sandbox-tokens-per-second", "100", "--log-format", "json", "--console")
    with serving(*flags) as service:
        yield service
