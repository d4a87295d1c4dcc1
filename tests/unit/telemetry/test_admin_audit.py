"""The accesses to the admin port, as security events."""

from http import HTTPStatus

import pytest

from support.audit import audited
from togetherchat_server.telemetry import admin_audit as module
from togetherchat_server.telemetry.admin_audit import REPEAT_S, AdminAudit

METRICS = ("10.0.0.1", "/metrics", HTTPStatus.OK)
NOT_FOUND = ("10.0.0.1", None, HTTPStatus.NOT_FOUND)


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def admin(clock):
    return AdminAudit(clock=clock)


def test_one_line_an_hour_stands_for_equal_accesses(admin, clock):
    """The next line has the number of those without a line."""
    with audited() as audit:
        for _ in range(5):
            admin.record(*METRICS)
        clock.now_s += REPEAT_S
        admin.record(*METRICS)
        clock.now_s += REPEAT_S - 1
        admin.record(*METRICS)
        clock.now_s += 1
        admin.record(*METRICS)

    line = {
        "event": "admin_access",
        "client_address": "10.0.0.1",
        "path": "/metrics",
        "http_status": 200,
    }
    assert [line, {**line, "suppressed": 4}, {**line, "suppressed": 1}] == audit.events()


@pytest.mark.parametrize(
    "other",
    [
        ("10.0.0.2", "/metrics", HTTPStatus.OK),
        ("10.0.0.1", "/version", HTTPStatus.OK),
        ("10.0.0.1", "/metrics", HTTPStatus.SERVICE_UNAVAILABLE),
    ],
)
def test_another_address_path_or_status_has_a_line_of_its_own(admin, other):
    """An access by somebody else is not hidden behind Prometheus."""
    with audited() as audit:
        admin.record(*METRICS)
        admin.record(*other)

    assert 2 == len(audit.lines)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize("status", [HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE])
def test_probes_are_not_reported(admin, path, status):
    """They come every few seconds."""
    with audited() as audit:
        admin.record("10.0.0.1", path, status)

    assert [] == audit.lines


def test_a_rejected_request_for_a_probes_page_is_reported(admin):
    """No orchestrator sends one."""
    with audited() as audit:
        admin.record("10.0.0.1", "/healthz", HTTPStatus.METHOD_NOT_ALLOWED)

    assert [("/healthz", 405)] == [(line["path"], line["http_status"]) for line in audit.lines]


def test_of_rejected_requests_one_a_second_is_reported(admin, clock):
    """Of each address and status. The path of the request is not in the line if it does not exist."""
    with audited() as audit:
        for _ in range(5):
            admin.record(*NOT_FOUND)
        admin.record("10.0.0.1", "/metrics", HTTPStatus.MISDIRECTED_REQUEST)
        admin.record("10.0.0.2", None, HTTPStatus.NOT_FOUND)
        clock.now_s += 1
        admin.record(*NOT_FOUND)

    assert [("other", 404, None), ("/metrics", 421, None), ("other", 404, None), ("other", 404, 4)] == [
        (line["path"], line["http_status"], line.get("suppressed")) for line in audit.lines
    ]


def test_the_accesses_that_are_remembered_are_bounded(admin, monkeypatch):
    """The oldest is forgotten, and reported again."""
    monkeypatch.setattr(module, "ACCESSES_MAX", 2)
    with audited() as audit:
        for address in ("a", "b", "c", "b", "a"):
            admin.record(address, "/metrics", HTTPStatus.OK)

    assert ["a", "b", "c", "a"] == [line["client_address"] for line in audit.lines]
