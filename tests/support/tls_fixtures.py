"""Fixtures: an authority, an untrusted one, two certificates of the authority, a folder with the first.

A test module loads them with `pytest_plugins = ["support.tls_fixtures"]`. Certificates are created
once per run: each takes some milliseconds, and no test changes one.
"""

import pytest
import trustme

from support.tls import Folder, Pair


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture(scope="session")
def untrusted():
    return trustme.CA()


@pytest.fixture(scope="session")
def pairs(authority):
    return Pair(authority), Pair(authority)


@pytest.fixture
def folder(tmp_path, pairs, authority):
    return Folder(tmp_path).put(pairs[0], client_ca=authority)
