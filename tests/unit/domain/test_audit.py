"""Security events on their way to the audit log."""

import logging
import re
from pathlib import Path

import pytest

from togetherchat_server.domain import audit
from togetherchat_server.domain.audit import AUDIT_LOGGER, AuditEntry, AuditEvent, emit


class Collecting(logging.Handler):
    """Keeps the entries of the records that it handles."""

    def __init__(self):
        super().__init__()
        self.entries = []

    def emit(self, record):
        self.entries.append(record.msg)


@pytest.fixture
def handler(monkeypatch):
    """The only handler of the events: pytest has some of its own, also for this logger."""
    collecting = Collecting()
    monkeypatch.setattr(AUDIT_LOGGER, "handlers", [collecting])
    return collecting


def test_an_event_reaches_the_handler_without_its_empty_fields(handler, monkeypatch):
    """A number is never empty: 0 is a value."""
    monkeypatch.setattr(audit.time, "time", lambda: 12.5)
    emit(AuditEvent.ADMIN_ACCESS, client_address="10.0.0.1", path="", http_status=0)

    assert [
        AuditEntry(
            event=AuditEvent.ADMIN_ACCESS,
            time_s=12.5,
            fields={"client_address": "10.0.0.1", "http_status": 0},
        )
    ] == handler.entries


def test_no_event_reaches_the_log_of_calls(handler, monkeypatch):
    """The handlers of the root logger do not see it, so the two streams are separate."""
    root = Collecting()
    monkeypatch.setattr(logging.getLogger(), "handlers", [root])
    emit(AuditEvent.KEY_CREATED, key_id="0123456789ab")

    assert (1, []) == (len(handler.entries), root.entries)


def test_without_a_handler_an_event_is_discarded(capfd, monkeypatch):
    """Nothing is formatted, and Python's handler of last resort writes nothing."""
    monkeypatch.setattr(AUDIT_LOGGER, "handlers", [])
    monkeypatch.setattr(audit, "audit_entry", lambda *_, **__: pytest.fail("an entry was made"))
    emit(AuditEvent.KEY_CREATED, key_id="0123456789ab")

    assert ("", "") == capfd.readouterr()


def test_every_event_is_described_where_it_is_defined():
    """The name is the value in upper case, and a docstring follows."""
    source = Path(audit.__file__).read_text("utf-8")
    described = re.findall(r'^    ([A-Z_]+) = "([a-z_]+)"\n    """[A-Z].+\."""$', source, re.MULTILINE)

    assert [(event.name, event.value) for event in AuditEvent] == described
    assert all(name.lower() == value for name, value in described)
