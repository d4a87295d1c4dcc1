"""What the tests of the page Usage read from it, and what they expect of its rows."""

import re
from datetime import UTC, date, datetime

from playwright.sync_api import expect
from seeded_usage import DAY_US, NANO, today_us


def settled(window):
    """Wait until the report that is chosen is shown."""
    expect(window.part("#link")).to_contain_text("as of")
    expect(window.part("#report")).not_to_have_attribute("aria-busy", "true")
    return window


def choose(window, name, value):
    with window.page.expect_response("**/usage.json*"):
        window.part(f'input[name="{name}"][value="{value}"]').check(force=True)
    return settled(window)


def amount(text):
    return float(re.search(r"\$([\d,]+(?:\.\d+)?)", text)[1].replace(",", ""))


def since_us(period):
    """Return when a period starts and ends."""
    now = datetime.now(UTC)
    first = datetime(now.year, now.month, 1, tzinfo=UTC)
    last = datetime(now.year - (now.month == 1), (now.month - 2) % 12 + 1, 1, tzinfo=UTC)
    hour_us = 3_600_000_000
    starts = {
        "24h": int(now.timestamp() * 1e6) // hour_us * hour_us - 23 * hour_us,
        "7d": today_us() - 6 * DAY_US,
        "30d": today_us() - 29 * DAY_US,
        "month": int(first.timestamp() * 1e6),
        "last-month": int(last.timestamp() * 1e6),
    }
    return starts[period], starts["month"] if period == "last-month" else 2**62


def in_period(rows, period):
    start_us, end_us = since_us(period)
    return [row for row in rows if start_us <= row["time_us"] < end_us]


def days_ago(day):
    """Return how long ago a day such as 2026-11-30 is."""
    return (datetime.now(UTC).date() - date.fromisoformat(day)).days


def cost_of(rows, **fields):
    chosen = [row for row in rows if all(row[name] == value for name, value in fields.items())]
    return sum(row["cost_nano_usd"] or 0 for row in chosen) / NANO


def table_of(window):
    """Return the headings and the rows of the chart's table."""
    window.part(".figures summary").click()
    lines = [
        line.locator("th, td").all_text_contents()
        for line in window.part("#figures tr").all()
    ]  # fmt: skip
    return lines[0], lines[1:]
