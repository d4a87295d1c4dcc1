"""What the ledger's database must do, whatever its kind: subclasses provide the fixture `database`."""

import dataclasses
import itertools
import time

import pytest
import sqlalchemy as sa

from support.usage import (
    DAY_US,
    HOUR_US,
    START_US,
    VALUES,
    groups_of,
    mixed_rows,
    sums_of,
    usage_query,
    usage_row,
)
from togetherchat_server.config import SettingsError
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.usage.migrate import VERSION_TABLE, SchemaState, migrate, schema_state
from togetherchat_server.usage.reader import DatabaseReader
from togetherchat_server.usage.report import Dimension
from togetherchat_server.usage.retention import GRACE_US, expire_rows
from togetherchat_server.usage.rows import insert_rows
from togetherchat_server.usage.schema import CALLS, DAYS, METADATA
from togetherchat_server.usage.spill import storable

NOW_US = START_US + 10 * DAY_US


def insert(database, rows, *, now_us=NOW_US):
    engine = database.writer()
    with engine.begin() as connection:
        return insert_rows(connection, rows, now_us=now_us)


def expire(database, *, days, now_us=NOW_US + GRACE_US + 1, steps=1000):
    """Move old rows to the daily sums, at most `steps` transactions."""
    engine = database.writer()
    for _ in range(steps):
        with engine.begin() as connection:
            if not expire_rows(connection, now_us=now_us, retention_days=days):
                return


def stored(database, table=CALLS):
    engine = database.writer()
    with engine.begin() as connection:
        return [dict(row) for row in connection.execute(sa.select(table)).mappings()]


def make_older(database):
    engine = database.writer()
    with engine.begin() as connection:
        migrate(connection, "0001")


def make_newer(database):
    """Name a revision that a later version of the service might have."""
    engine = database.writer()
    with engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))


class LedgerDatabaseCases:
    """Migrations, inserts, reports and retention."""

    @pytest.fixture
    def reader(self, database):
        reader = DatabaseReader(database, wall_clock=lambda: NOW_US / 1e6)
        yield reader
        reader.close()

    def test_migrations_lead_to_the_tables_of_this_version_and_back(self, database):
        """Down to none and up again, with every column, type and index of `schema.py`."""
        engine = database.writer()
        with engine.begin() as connection:
            migrate(connection, "base")
            assert SchemaState.OLDER is schema_state(connection)
            assert {VERSION_TABLE} >= set(sa.inspect(connection).get_table_names())
        with engine.begin() as connection:
            migrate(connection)
            migrate(connection)
            assert SchemaState.CURRENT is schema_state(connection)
            inspector = sa.inspect(connection)
            for name, table in METADATA.tables.items():
                found = {column["name"]: column for column in inspector.get_columns(name)}
                assert [column.name for column in table.columns] == list(found)
                for column in table.columns:
                    kind = column.type.compile(connection.dialect).partition(" ")[0]
                    assert kind == found[column.name]["type"].compile(connection.dialect).partition(" ")[0]
                    assert column.nullable == found[column.name]["nullable"]
                indexes = {index["name"]: index["column_names"] for index in inspector.get_indexes(name)}
                assert {
                    index.name: [column.name for column in index.columns] for index in table.indexes
                } == indexes

    def test_tables_of_a_newer_version_are_not_touched(self, database):
        """The service does not start, and the command does not migrate."""
        make_newer(database)

        for action in (database.prepare, database.migrate):
            with pytest.raises(SettingsError, match="those of a newer version of togetherchat"):
                action()

    def test_a_row_is_stored_as_it_is(self, database):
        """Each field, in a column of its name; `user` is `end_user`."""
        row = usage_row(
            1, user="alice", cost_nano_usd=None, first_token_us=5, estimated=True, input_tokens=2**62
        )
        insert(database, [row])

        (found,) = stored(database)
        expected = dataclasses.asdict(row)
        expected["end_user"] = expected.pop("user")
        assert {**expected, "inserted_us": NOW_US} == found

    def test_a_row_counts_once(self, database):
        """Within one insert, and in a later one with other values."""
        rows = [usage_row(number) for number in range(600)]

        assert 600 == insert(database, [*rows, rows[0]])
        assert 0 == insert(database, [dataclasses.replace(row, cost_nano_usd=9) for row in rows])
        assert 1 == insert(database, [*rows, usage_row(600)])
        assert 0 == insert(database, [])
        assert {1_000} == {row["cost_nano_usd"] for row in stored(database)}

    def test_texts_and_numbers_that_no_database_stores_are_replaced(self, database):
        """NUL, half a surrogate pair, and a number of more than 64 bits."""
        odd = usage_row(1, user="a\0b", model="x\ud800", tenant='it\'s; "DROP" %s :x', output_tokens=2**80)
        insert(database, [storable(odd)])

        (found,) = stored(database)
        assert ("a\ufffdb", "x?", odd.tenant, 2**63 - 1) == (
            found["end_user"],
            found["model"],
            found["tenant"],
            found["output_tokens"],
        )

    @pytest.mark.parametrize("number", range(3))
    async def test_reports_are_what_a_loop_computes(self, database, reader, number):
        """Sums and percentiles, for no, one and some combinations of dimensions."""
        rows = mixed_rows(800, seed=number)
        insert(database, rows)
        chosen = [
            (),
            *((one,) for one in Dimension),
            *itertools.islice(itertools.permutations(Dimension, 3), number, 200, 40),
        ]

        for dimensions in chosen:
            report = await reader.query(usage_query(*dimensions))

            assert sums_of(rows) == report.total
            assert not report.more
            assert groups_of(rows, *dimensions) == [(group.values, group.sums) for group in report.groups]

    async def test_a_period_has_its_start_and_not_its_end(self, database, reader):
        """To the microsecond."""
        rows = [usage_row(number, time_us=START_US + number) for number in range(4)]
        insert(database, rows)
        report = await reader.query(usage_query(start_us=START_US + 1, end_us=START_US + 3))

        assert sums_of(rows[1:3]) == report.total

    async def test_filters_are_combined(self, database, reader):
        """A call is reported if each filter has its value."""
        rows = mixed_rows(500)
        insert(database, rows)
        filters = {
            Dimension.TENANT: ("acme", "ähre", "none"),
            Dimension.KEY: ("k1", "spiffe://one"),
            Dimension.REASON: ("",),
        }
        expected = [row for row in rows if all(VALUES[one](row) in values for one, values in filters.items())]
        report = await reader.query(usage_query(Dimension.USER, filters=filters))

        assert expected
        assert groups_of(expected, Dimension.USER) == [(group.values, group.sums) for group in report.groups]
        assert sums_of(expected) == report.total

    async def test_a_filter_without_values_matches_nothing(self, database, reader):
        """As a list of no tenants means none of them."""
        insert(database, [usage_row()])
        report = await reader.query(usage_query(Dimension.TENANT, filters={Dimension.TENANT: ()}))

        assert (0, []) == (report.total.calls, list(report.groups))

    async def test_pages_follow_each_other(self, database, reader):
        """Together they are the whole report; each has the total."""
        rows = mixed_rows(400)
        insert(database, rows)
        dimensions = (Dimension.HOUR, Dimension.MODEL)
        expected = groups_of(rows, *dimensions)
        found, more = [], True
        while more:
            report = await reader.query(usage_query(*dimensions, offset=len(found), limit=37))
            found += [(group.values, group.sums) for group in report.groups]
            more = report.more
            assert sums_of(rows) == report.total

        assert expected == found

    async def test_an_empty_ledger_has_an_empty_report(self, database, reader):
        """No groups, a total of zero, and no percentiles."""
        for dimensions in ((), (Dimension.DAY, Dimension.TENANT)):
            report = await reader.query(usage_query(*dimensions))
            assert (sums_of([]), []) == (report.total, list(report.groups))
        assert {} == await reader.cost_by_tenant(0, NOW_US)

    async def test_the_cost_of_each_tenant(self, database, reader):
        """Unpriced calls count as zero, and calls outside of the period do not count."""
        rows = mixed_rows(300)
        insert(database, rows)
        end_us = START_US + 2 * DAY_US
        expected = {
            tenant: sum(
                row.cost_nano_usd or 0 for row in rows if row.tenant == tenant and row.time_us < end_us
            )
            for tenant in {row.tenant for row in rows}
        }
        expire(database, days=9)

        assert expected == await reader.cost_by_tenant(START_US, end_us)
        assert len(stored(database)) < 300

    async def test_old_rows_become_daily_sums(self, database, reader):
        """Reports by day, tenant, model, key, user and reason stay the same, without percentiles."""
        rows = mixed_rows(1_500)
        insert(database, rows)
        expire(database, days=7)
        old = [row for row in rows if row.time_us < START_US + 4 * DAY_US]

        assert {row.id for row in rows} - {row.id for row in old} == {row["id"] for row in stored(database)}
        dimensions = tuple(one for one in Dimension if one is not Dimension.HOUR)
        report = await reader.query(usage_query(*dimensions))
        young = {START_US + 4 * DAY_US}
        expected = [
            (values, sums if young & set(values) else dataclasses.replace(sums, **NO_PERCENTILES))
            for values, sums in groups_of(rows, *dimensions)
        ]
        assert expected == [(group.values, group.sums) for group in report.groups]
        assert sums_of(rows, percentiles=False) == report.total

    async def test_a_row_that_arrives_late_is_added_once(self, database, reader):
        """Also if it arrives again before it is deleted, and if the deletion is repeated."""
        rows = mixed_rows(200, days=1)
        insert(database, rows[:150])
        expire(database, days=1)
        later_us = NOW_US + 20 * DAY_US
        insert(database, rows[150:], now_us=later_us)
        insert(database, rows[150:], now_us=later_us)
        expire(database, days=1, now_us=later_us + 1)
        assert 50 == len(stored(database))  # another insert of these rows would still have no effect
        for _ in range(2):
            expire(database, days=1, now_us=later_us + GRACE_US + 1)

        assert [] == stored(database)
        report = await reader.query(usage_query())
        assert sums_of(rows, percentiles=False) == report.total

    async def test_an_old_day_belongs_to_the_period_with_its_start(self, database, reader):
        """Daily sums cannot be divided."""
        insert(database, [usage_row(time_us=START_US + 5 * HOUR_US)])
        expire(database, days=1)
        reports = [
            await reader.query(
                usage_query(Dimension.HOUR, start_us=START_US + start, end_us=START_US + DAY_US)
            )
            for start in (0, 1)
        ]

        assert [[(START_US,)], []] == [[group.values for group in report.groups] for report in reports]

    def test_one_transaction_moves_a_bounded_number_of_rows(self, database):
        """So that it holds no lock for long."""
        insert(database, [usage_row(number) for number in range(1_100)])
        expire(database, days=1, steps=1)

        assert 600 == len(stored(database))
        assert [500] == [day["calls"] for day in stored(database, DAYS)]

    async def test_inserts_of_other_parts_are_counted(self, reader):
        """Only new rows."""
        rows = [usage_row(number) for number in range(1_200)]

        assert 700 == await reader.insert(rows[:700])
        assert 500 == await reader.insert(rows)

    async def test_a_query_that_takes_too_long_fails(self, database):
        """With USAGE_UNAVAILABLE, and soon."""
        insert(database, mixed_rows(2_000))
        slow = DatabaseReader(database, wall_clock=time.time, timeout_s=0.001)

        with pytest.raises(ServiceError) as raised:
            await slow.query(usage_query(*list(Dimension)[:3]))
        slow.close()
        assert Reason.USAGE_UNAVAILABLE is raised.value.reason


NO_PERCENTILES = dict.fromkeys(
    ("duration_p50_us", "duration_p95_us", "first_token_p50_us", "first_token_p95_us")
)
