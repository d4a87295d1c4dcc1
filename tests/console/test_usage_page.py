"""The console's page Usage, with a service whose ledger has invented calls."""

from collections import Counter

import pytest
from conftest import DESKTOP, PHONE, PICTURES
from hostile_provider import ATTACK, LONG
from playwright.sync_api import expect
from seeded_usage import DAY_US
from usage_window import amount, choose, cost_of, in_period, table_of

# What is shown


@pytest.mark.parametrize("period", ["24h", "7d", "30d", "month", "last-month"])
def test_totals_are_those_of_the_period(open_usage, usage, period):
    """Cost and calls of whole days or hours; the calls are those of the callers only."""
    window = open_usage(usage, choice=f"period={period}&tenant=search")
    rows = [row for row in in_period(usage.rows, period) if row["tenant"] == "search"]

    assert cost_of(rows) == amount(window.text("#cost"))
    assert str(len(rows)) == window.text("#calls")


def test_estimates_and_calls_without_a_price_are_named(open_usage, usage):
    """So that a reader knows what the cost is not."""
    window = open_usage(usage, choice="period=7d&tenant=ingest")

    assert "$1.00 of it (25%) estimated" == window.text("#cost-rest")
    assert "2 failed \u00b7 50%" == window.text("#calls-rest")
    expect(window.part("#remark")).to_contain_text("1 call is not in the cost")


def test_the_chart_has_the_sums_of_each_day(open_usage, usage):
    """As bars, as a legend, and as a table with one line for each day."""
    window = open_usage(usage)
    rows = in_period(usage.rows, "30d")
    heads, lines = table_of(window)

    assert ["Day", "support", "search", "ingest", "All"] == heads
    assert 30 == len(lines)
    for index, tenant in enumerate(heads[1:4], start=1):
        assert cost_of(rows, tenant=tenant) == pytest.approx(sum(amount(line[index]) for line in lines))
    assert cost_of(rows) == pytest.approx(sum(amount(line[-1]) for line in lines))
    paid = {(row["tenant"], row["time_us"] // DAY_US) for row in rows if row["cost_nano_usd"]}
    assert len(paid) == window.part(".bar-part").count()
    expect(window.part("#legend li").first).to_contain_text("support")


def test_the_chart_is_stacked_by_model_and_shows_calls(open_usage, usage):
    """After its switches are used."""
    window = choose(open_usage(usage), "split", "model")
    window.part('input[name="measure"][value="calls"]').check(force=True)
    expect(window.part("#chart-title")).to_have_text("Calls per day")
    heads, lines = table_of(window)
    counts = Counter(row["model"] for row in in_period(usage.rows, "30d"))

    assert {*counts, "Day", "All"} <= {*heads, "(no model)"}
    for model, count in counts.items():
        index = heads.index(model)
        assert count == sum(int(line[index]) for line in lines)


def test_small_parts_are_summed_as_others(open_usage, usage_of_many):
    """Forty tenants have eight colours."""
    window = open_usage(usage_of_many)
    heads, lines = table_of(window)

    assert [f"team-{number}" for number in range(39, 32, -1)] == heads[1:8]
    assert "others" in heads[8]
    assert (sum(range(1, 41)), sum(range(1, 34))) == (amount(lines[-1][-1]), amount(lines[-1][8]))
    offered = set(window.part("#tenant option").all_text_contents())
    assert {row["tenant"] for row in usage_of_many.rows} <= offered


def test_hours_are_shown_for_the_last_day(open_usage, usage):
    """24 bars, the last of which is that of the current hour."""
    window = open_usage(usage, choice="period=24h")

    expect(window.part("#chart-title")).to_have_text("Cost per hour")
    assert 24 == window.part("#bars .hit").count()


def test_the_top_callers_are_sorted_by_cost(open_usage, usage):
    """A caller is a key and a user. What a user is named runs nothing."""
    window = open_usage(usage, choice="period=30d")
    costs = [amount(text) for text in window.part('#callers td[data-label="Cost"]').all_text_contents()]
    names = window.part("#callers .who").all_text_contents()

    assert costs == sorted(costs, reverse=True)
    assert {"c07be9914ad2", "ranking", "answers", ATTACK, LONG} <= set(names)
    assert 0 == window.part("#broken").count() == window.part("img").count()
    assert None is window.page.evaluate("window.broken ?? null")
    assert 0 >= window.overflow()


def test_latencies_are_those_of_each_model(open_usage, usage):
    """Median and p95 of the time to the first token and of the whole call."""
    window = open_usage(usage, choice="period=30d&tenant=search")
    row = window.part("#latencies tr").first

    expect(row.locator(".who")).to_have_text("acme/large")
    expect(row.locator('td[data-label="First token"]')).to_have_text("250 msp95 900 ms")
    expect(row.locator('td[data-label="Whole call"]')).to_have_text("2.00 sp95 8.00 s")


def test_budgets_show_what_is_used(open_usage, usage):
    """The fullest first, with a mark at the soft limit, and a meter for screen readers."""
    window = open_usage(usage)
    meters = window.page.get_by_role("meter").all()
    labels = [meter.get_attribute("aria-label") for meter in meters]

    assert ["Budget of ingest per day", "Budget of support per day"] == labels[:2]
    assert ["$2.50 of $2.00, used up", "$6.00 of $10.00, over the soft limit", "$4.50 of $100.00"] == [
        meters[index].get_attribute("aria-valuetext")
        for index in (0, 1, labels.index("Budget of search per day"))
    ]
    assert "50%" == meters[1].locator(".soft").evaluate("mark => mark.style.left")
    assert ["budget bad", "budget warn"] == [
        window.part(".budget").nth(index).get_attribute("class").strip() for index in (0, 1)
    ]


# Use


def test_the_chart_can_be_read_by_keyboard(open_usage, usage):
    """The arrow keys choose a bar, whose values are announced; Escape hides them."""
    window = open_usage(usage)
    tip = window.part("#tip")
    window.part("#plot").focus()
    window.page.keyboard.press("ArrowLeft")
    expect(tip).to_contain_text("All$13.00")
    window.page.keyboard.press("ArrowLeft")
    expect(tip).to_contain_text("of it estimated$1.00")
    window.page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    assert "status" == tip.get_attribute("role")


def test_every_control_has_an_accessible_name(open_usage, usage):
    """For screen readers."""
    window = open_usage(usage)
    unnamed = """Array.from(document.querySelectorAll("input, select, button, a, summary, [role=region], [role=group], [role=meter]"))
        .filter(control => !(control.labels?.length || control.getAttribute("aria-label")
            || control.getAttribute("aria-labelledby") || control.textContent.trim()))
        .map(control => control.outerHTML)"""

    assert [] == window.page.evaluate(unnamed)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "size"), [("desktop", DESKTOP), ("phone", PHONE)])
def test_the_page_fits_its_window(open_usage, usage, name, size, scheme):
    """In both colour schemes, with hostile names and the table open. Also takes the screenshots."""
    window = open_usage(usage, size=size, scheme=scheme)
    PICTURES.mkdir(parents=True, exist_ok=True)
    picture = PICTURES / f"usage-{name}-{scheme}.png"
    window.page.screenshot(path=picture, full_page=True)
    assert picture.read_bytes().startswith(b"\x89PNG")
    window.part(".figures summary").click()
    assert 0 >= window.overflow()
