"""The connections that fit into the file limit."""

import resource

import pytest

from togetherchat_server.runtime.file_limit import connections_max, raise_file_limit


@pytest.mark.parametrize(
    ("files", "expected"), [(1024, 298), (65_536, 4096), (64, 1), (resource.RLIM_INFINITY, 4096)]
)
def test_listeners_leave_files_for_others(monkeypatch, files, expected):
    """Each listener has a third of what is not reserved, and at least one connection."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))

    assert expected == connections_max(4096)


def test_the_soft_limit_is_raised(monkeypatch):
    """The operator sets the hard limit; the soft limit is often 1,024."""
    found = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 5000))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: found.append(limits))
    raise_file_limit()

    assert [(5000, 5000)] == found
