"""The table of reasons is complete, and agrees with itself."""

import pytest

from togetherchat_server.domain.reasons import TABLE, AttemptClass, Reason


def test_the_table_is_total():
    """Every reason has its row."""
    assert set(Reason) == set(TABLE)


def test_a_reason_is_its_own_name():
    """Call records, statuses and code have the same word."""
    assert [] == [reason for reason in Reason if reason.name != reason.value]


@pytest.mark.parametrize("reason", Reason)
def test_what_may_be_billed_is_not_advertised_as_retryable(reason):
    """A caller that retries such a call may pay twice, and only the operator may decide that."""
    assert not (reason.row.attempt is AttemptClass.MAY_BE_BILLED and reason.row.retryable)
