"""The audit log: lines, bounds, and the events of calls."""

import json
import os
import threading

import pytest

from support.audit import audited
from support.records import record
from togetherchat_server.config import SettingsError
from togetherchat_server.domain.audit import AUDIT_LOGGER, AuditEvent, audit_entry, emit
from togetherchat_server.domain.reasons import REJECTS_CREDENTIAL, Reason
from togetherchat_server.telemetry import audit_log as module
from togetherchat_server.telemetry.audit_file import check_audit_log, line_of
from togetherchat_server.telemetry.audit_log import LINES_PER_SECOND, AuditLog, CredentialAudit


class Clock:
    """A clock that a test moves: the limiters count within its second."""

    def __init__(self):
        self.now_s = 5.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def test_a_line_is_one_json_object_with_time_event_process_and_fields(monkeypatch):
    """The time is UTC with milliseconds."""
    monkeypatch.setattr("togetherchat_server.telemetry.audit_file.os.getpid", lambda: 4711)
    entry = audit_entry(AuditEvent.ADMIN_ACCESS, 1893456000.25, client_address="::1", http_status=200)

    assert (
        '{"time":"2030-01-01T00:00:00.250Z","event":"admin_access","pid":4711,"client_address":"::1",'
        '"http_status":200}'
    ) == line_of(entry)


@pytest.mark.parametrize("text", ["line\nbreak", "\u2028", "\x1b[31m", 'a "quote"', "\ud800"])
def test_no_value_can_break_a_line(text):
    """Also not what only some readers take for a line break."""
    line = line_of(audit_entry(AuditEvent.KEY_CREATED, 0.0, label=text))

    assert line.isascii()
    assert line.isprintable()
    assert text == json.loads(line)["label"]


def test_events_are_written_by_a_thread_and_closing_writes_the_rest(tmp_path, monkeypatch):
    """The caller of `emit` does not format them. After `close` they are discarded."""
    threads = set()

    def formatted(entry):
        threads.add(threading.current_thread().name)
        return line_of(entry)

    monkeypatch.setattr(module, "line_of", formatted)
    before = list(AUDIT_LOGGER.handlers)
    log = AuditLog(str(tmp_path / "audit"))
    for number in range(20):
        emit(AuditEvent.FILE_RELOADED, file=f"/f{number}")
    log.close()
    emit(AuditEvent.FILE_RELOADED, file="/late")

    lines = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    assert [f"/f{number}" for number in range(20)] == [line["file"] for line in lines]
    assert ({"audit log"}, before) == (threads, AUDIT_LOGGER.handlers)


def test_lines_that_a_full_disk_loses_are_counted():
    """No caller of `emit` sees the problem."""
    log = AuditLog("/dev/full")
    for _ in range(3):
        emit(AuditEvent.FILE_RELOADED, file="/f")
    log.close()

    assert 3 == log.dropped


def rejected(**changed):
    fields = {"reason": "INVALID_CREDENTIALS", "client_address": "10.0.0.1", "tenant": "", "key_id": "aa"}
    emit(AuditEvent.CREDENTIAL_REJECTED, **{**fields, **changed})


def test_a_flood_of_one_kind_is_bounded_and_the_next_line_has_the_number(clock):
    """Keys do not distinguish kinds: an attacker has as many as it likes."""
    with audited(clock=clock) as log:
        for number in range(LINES_PER_SECOND + 7):
            rejected(key_id=f"{number}")
        clock.now_s += 1
        rejected()
    lines = log.lines

    assert LINES_PER_SECOND + 1 == len(lines)
    assert [None] * LINES_PER_SECOND + [7] == [line.get("suppressed") for line in lines]


@pytest.mark.parametrize("other", [{"client_address": "10.0.0.2"}, {"tenant": "b"}, {"reason": "OTHER"}])
def test_a_flood_suppresses_no_other_address_tenant_or_reason(other, clock):
    """Each has its own bound."""
    with audited(clock=clock) as log:
        for _ in range(LINES_PER_SECOND + 1):
            rejected()
        rejected(**other)

    assert LINES_PER_SECOND + 1 == len(log.lines)


def test_a_flood_from_many_addresses_does_not_hide_another_event(clock):
    """The limiter of each event bounds the kinds of a second, so that memory is bounded, too."""
    with audited(clock=clock) as log:
        for number in range(1000):
            rejected(client_address=f"10.0.{number // 250}.{number % 250}")
        emit(AuditEvent.CREDENTIAL_FIRST_USED, key_id="aa", client_address="10.9.9.9")

    assert "credential_first_used" == log.lines[-1]["event"]


def test_suppressed_lines_are_added_to_the_number_of_the_event(clock):
    """An access to the admin port counts the accesses that it stands for."""
    with audited(clock=clock) as log:
        for _ in range(LINES_PER_SECOND + 2):
            emit(AuditEvent.ADMIN_ACCESS, client_address="::1", suppressed=3)
        clock.now_s += 1
        emit(AuditEvent.ADMIN_ACCESS, client_address="::1", suppressed=4)

    assert (3, 6) == (log.lines[0]["suppressed"], log.lines[-1]["suppressed"])


CALLER = {"tenant": "acme", "key_id": "0123456789ab", "client_address": "10.0.0.1"}
CALL = {"protocol": "grpc", "method": "/togetherchat.v1.ChatService/Complete", "request_id": "request-1"}


@pytest.mark.parametrize("reason", list(Reason))
def test_a_call_with_a_bad_credential_is_an_event(reason, clock):
    """For the reasons that the auth throttle counts. Any other failed call of a tenant used its key."""
    with audited(clock=clock) as log:
        CredentialAudit()(record(reason=reason.value, detail="the key was revoked", **CALLER))
    (line,) = log.events()

    if reason in REJECTS_CREDENTIAL:
        assert {
            "event": "credential_rejected",
            "reason": reason.value,
            "detail": "the key was revoked",
            **CALLER,
            **CALL,
        } == line
    else:
        assert {"event": "credential_first_used", **CALLER, **CALL} == line


def test_the_first_use_of_a_credential_from_an_address_is_an_event(clock):
    """One of each pair. A subject of a JWT or of a certificate counts as a key id does."""
    sink = CredentialAudit()
    with audited(clock=clock) as log:
        for _ in range(2):
            sink(record(**CALLER))
            sink(record(**CALLER | {"client_address": "10.0.0.2"}))
            sink(record(**CALLER | {"key_id": "bbbbbbbbbbbb"}))
            sink(record(**CALLER | {"key_id": "", "subject": "spiffe://a/b"}))
            sink(record(client_address="10.0.0.1"))

    assert [
        ("0123456789ab", None, "10.0.0.1"),
        ("0123456789ab", None, "10.0.0.2"),
        ("bbbbbbbbbbbb", None, "10.0.0.1"),
        (None, "spiffe://a/b", "10.0.0.1"),
    ] == [(line.get("key_id"), line.get("subject"), line["client_address"]) for line in log.lines]


def test_the_pairs_are_bounded_and_the_least_recently_used_is_forgotten(monkeypatch, clock):
    """A forgotten pair is reported again."""
    monkeypatch.setattr(module, "PAIRS_MAX", 2)
    sink = CredentialAudit()
    with audited(clock=clock) as log:
        for key_id in ("a", "b", "a", "c", "a", "b"):
            sink(record(**CALLER | {"key_id": key_id}))

    assert ["a", "b", "c", "b"] == [line["key_id"] for line in log.lines]


def test_a_named_pipe_is_opened_once(tmp_path):
    """Its reader would take the close of the check for the end of the log."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    check_audit_log(str(path))  # without a reader, an open would fail
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = AuditLog(str(path))
    emit(AuditEvent.FILE_RELOADED, file="/f")
    log.close()
    text = os.read(reader, 1000)
    os.close(reader)

    assert "/f" == json.loads(text)["file"]


def test_a_file_that_cannot_be_opened_is_one_sentence(tmp_path):
    """As every setting that cannot be used. No audit log is nothing to check."""
    check_audit_log(None)
    with pytest.raises(SettingsError) as raised:
        check_audit_log(str(tmp_path))

    assert f"--audit-log {tmp_path}: cannot open the file: Is a directory" == str(raised.value)
