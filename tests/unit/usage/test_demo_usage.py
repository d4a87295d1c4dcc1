"""What `make demo-usage` shows."""

import tomllib
from collections import Counter

from support.demo_usage import BUDGETS_USED, DAYS, TEAMS, demo_rows, demo_tenants
from support.usage import DAY_US

NOW_US = 20_000 * DAY_US + DAY_US * 3 // 4


def test_the_calls_of_a_day_are_always_the_same():
    """They fill 40 days up to now, with failures and estimated costs, and none is in the future."""
    rows = demo_rows(NOW_US)

    assert rows == demo_rows(NOW_US)
    assert DAYS == len({row.time_us // DAY_US for row in rows})
    assert {team.tenant for team in TEAMS} == {row.tenant for row in rows}
    assert max(row.time_us for row in rows) < NOW_US
    assert len(rows) == len({row.id for row in rows})
    assert 0 < Counter(row.estimated for row in rows)[True] < len(rows) / 20


def test_budgets_are_used_as_the_table_has_it():
    """Within a percent: some nearly, and one completely."""
    rows = demo_rows(NOW_US)
    budgets = tomllib.loads(demo_tenants(rows, NOW_US))["tenants"]
    today = Counter()
    for row in rows:
        today[row.tenant] += row.cost_nano_usd if row.time_us >= NOW_US // DAY_US * DAY_US else 0

    assert set(BUDGETS_USED) == set(budgets)
    for tenant, (part, _) in BUDGETS_USED.items():
        if part is not None:
            assert abs(today[tenant] / 1e9 / budgets[tenant]["budget_usd_per_day"] - part) < 0.01
