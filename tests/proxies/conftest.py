"""nginx and HAProxy. A test with the fixture `proxy` runs with each of them.

`make test-proxies` runs this folder, and provides the programs.
"""

import pytest
import trustme

from proxies.reverse import ReverseProxy


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture(params=["nginx", "haproxy"])
def proxy(request, authority, tmp_path):
    return ReverseProxy(request.param, authority, tmp_path)


@pytest.fixture
def nginx(authority, tmp_path):
    return ReverseProxy("nginx", authority, tmp_path)


@pytest.fixture
def haproxy(authority, tmp_path):
    return ReverseProxy("haproxy", authority, tmp_path)
