"""The ledger in SQLite."""

import stat

import pytest

from support.usage import usage_row
from support.usage_cases import LedgerDatabaseCases, insert, make_older, stored
from togetherchat_server.usage.database import UsageDatabase


@pytest.fixture
def path(tmp_path):
    return tmp_path / "usage.sqlite"


@pytest.fixture
def database(path):
    database = UsageDatabase.parse(f"sqlite:///{path}")
    database.prepare()
    return database


class TestSqlite(LedgerDatabaseCases):
    """All cases."""


def test_the_file_is_for_its_owner_only(database, path):
    """It has names of end users."""
    insert(database, [usage_row()])

    assert {0o600} == {stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}


def test_an_older_file_is_migrated_at_the_start(database):
    """Its rows stay."""
    insert(database, [usage_row()])
    make_older(database)
    database.prepare()

    assert [usage_row().id] == [row["id"] for row in stored(database)]
