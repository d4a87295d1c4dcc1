"""docs/usage.md: its table has the columns, and its statements run."""

import re
from pathlib import Path

from support.usage import usage_row
from support.usage_cases import insert, stored
from togetherchat_server.usage.schema import CALLS

PAGE = (Path(__file__).parents[2] / "docs" / "usage.md").read_text(encoding="utf-8")
MONTH, DELETE = re.findall(r"^```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
NOVEMBER_US = 1_793_491_200_000_000


def test_the_table_has_the_columns():
    """All of them, once."""
    table = PAGE.partition("| column | meaning |")[2].partition("\n\n")[0]
    cells = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)

    assert sorted(CALLS.c.keys()) == sorted(re.findall(r"`(\w+)`", " ".join(cells)))


def test_the_statement_for_a_month(postgres, database):
    """It has the calls of November 2026, and no other."""
    costs = {NOVEMBER_US - 1: 10**9, NOVEMBER_US: 2 * 10**9, NOVEMBER_US + 30 * 86_400_000_000: 4 * 10**9}
    rows = [
        usage_row(number, time_us=time_us, cost_nano_usd=cost, estimated_cost_nano_usd=5 * 10**8)
        for number, (time_us, cost) in enumerate(costs.items())
    ]
    insert(database, [*rows, usage_row(9, time_us=NOVEMBER_US + 1, cost_nano_usd=None)])

    assert [("acme", "openai/gpt-oss-120b", 2, 2.0, 0.5, 1)] == [
        (*row[:3], float(row[3]), float(row[4]), row[5]) for row in postgres.execute(MONTH)
    ]


def test_the_statements_that_delete_a_person(postgres, database):
    """In both tables."""
    insert(database, [usage_row(1, user="alice"), usage_row(2, user="bob")])
    for statement in DELETE.strip().splitlines():
        postgres.execute(statement)

    assert {"", "bob"} == {row["end_user"] for row in stored(database)}
