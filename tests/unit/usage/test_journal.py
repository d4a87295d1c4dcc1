"""The journal of reservations: what it keeps, and what another process makes of it."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.calls import call_of
from togetherchat_server.usage import journal as journal_module
from togetherchat_server.usage.journal import KILLED, ReservationJournal, left_journals, rows_of


def reserve(journal, call, attempt=1, nano_usd=100, tokens=10):
    journal.reserved(call, attempt, tokens=tokens, nano_usd=nano_usd)


def settle(journal, call, attempt=1, nano_usd=40, tokens=4):
    journal.settled(call, attempt, tokens=tokens, nano_usd=nano_usd)


def killed(journal):
    """End a journal as a killed process does: nothing is closed in order."""
    os.close(journal._descriptor)
    if journal._previous is not None:
        os.close(journal._previous[1])


def left_rows(folder):
    rows = []
    for left in left_journals(folder):
        rows += left.rows
        left.remove()
    return rows


def test_an_attempt_that_did_not_end_counts_in_full(tmp_path):
    """One that did counts with what it used. Both belong to the same call."""
    journal, call = ReservationJournal(tmp_path), call_of("acme", key_id="k1", user="u")
    call.progress.model = "some/model"
    reserve(journal, call, 1)
    settle(journal, call, 1, nano_usd=40)
    reserve(journal, call, 2, nano_usd=70)
    killed(journal)
    (row,) = left_rows(tmp_path)

    assert (110, 70, True) == (row.cost_nano_usd, row.estimated_cost_nano_usd, row.estimated)
    assert (call.record_id, "acme", "k1", "u", "some/model") == (
        row.id,
        row.tenant,
        row.key_id,
        row.user,
        row.model,
    )
    assert (2, KILLED, "UNKNOWN", call.received_us) == (row.attempts, row.reason, row.code, row.time_us)
    assert [] == list(tmp_path.glob("*.journal"))


def test_a_process_that_ends_in_order_leaves_nothing(tmp_path):
    journal, call = ReservationJournal(tmp_path), call_of("acme")
    reserve(journal, call)
    settle(journal, call)
    journal.close()

    assert [] == list(tmp_path.iterdir())


def test_the_journal_of_a_living_process_is_not_taken(tmp_path):
    journal = ReservationJournal(tmp_path)
    reserve(journal, call_of("acme"))

    assert [] == left_rows(tmp_path)
    killed(journal)
    assert 1 == len(left_rows(tmp_path))


def test_a_journal_that_could_not_be_used_is_left_for_the_next_process(tmp_path):
    journal = ReservationJournal(tmp_path)
    reserve(journal, call_of("acme"))
    killed(journal)
    (left,) = left_journals(tmp_path)
    left.release()

    assert 1 == len(left_rows(tmp_path))


def test_a_grown_journal_is_replaced(tmp_path, monkeypatch):
    """The new file has the attempts in flight; the file before is kept until the next replacement."""
    monkeypatch.setattr(journal_module, "BYTES_MAX", 2000)
    journal, running = ReservationJournal(tmp_path), call_of("acme")
    reserve(journal, running, nano_usd=7)
    for _ in range(50):
        call = call_of("acme")
        reserve(journal, call)
        settle(journal, call)
    sizes = [path.stat().st_size for path in tmp_path.glob("*.journal")]
    killed(journal)
    rows = {row.id: row for row in left_rows(tmp_path)}

    assert len(sizes) == 2
    assert max(sizes) < 3000
    assert 7 == rows[running.record_id].cost_nano_usd


def test_a_full_disk_stops_the_journal_and_no_call(tmp_path, monkeypatch, caplog):
    """It is reported once; calls go on."""
    journal = ReservationJournal(tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        for _ in range(3):
            reserve(journal, call_of("acme"))

    assert journal.failed
    assert 1 == len([one for one in caplog.records if "cannot be written" in one.getMessage()])
    journal.close()


@given(content=st.binary(max_size=200) | st.text(alphabet='{}":,[]idatemp01\n', max_size=80).map(str.encode))
def test_any_bytes_are_read(content):
    """Damaged lines are left out."""
    rows_of(content)


@pytest.mark.parametrize("cut", range(2, 30, 7))
def test_an_incomplete_last_line_is_left_out(tmp_path, cut):
    journal = ReservationJournal(tmp_path)
    for _ in range(2):
        reserve(journal, call_of("acme"))
    content = next(tmp_path.glob("*.journal")).read_bytes()
    journal.close()

    assert 1 == len(rows_of(content[:-cut]))
