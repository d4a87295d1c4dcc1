"""Fixtures of an authority, a stranger, two pairs of the authority, and a folder that holds the first.

For a test module that says `pytest_plugins = ["support.tls_fixtures"]`. Made once a run: a certificate
takes some milliseconds, and no test changes one.
"""

import pytest
import trustme

from support.tls import Folder, Pair


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture(scope="session")
def stranger():
    return trustme.CA()


@pytest.fixture(scope="session")
def pairs(authority):
    return Pair(authority), Pair(authority)


@pytest.fixture
def folder(tmp_path, pairs, authority):
    return Folder(tmp_path).put(pairs[0], client_ca=authority)
