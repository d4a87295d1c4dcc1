"""The console's page Usage, with a service whose ledger has invented calls."""

import csv
import io
import re
from collections import Counter
from datetime import UTC, datetime

import pytest
from conftest import DESKTOP, PHONE, PICTURES
from hostile_provider import ATTACK, LONG
from playwright.sync_api import expect
from seeded_usage import (
    DAY_US,
    NANO,
    calls_of_many_tenants,
    serving_usage,
    today_us,
    varied_calls,
)

from support.service_process import serving

FAILURE = "Try again"


@pytest.fixture(scope="session")
def usage(tmp_path_factory):
    with serving_usage(tmp_path_factory.mktemp("usage"), varied_calls()) as service:
        yield service


@pytest.fixture(scope="session")
def usage_of_many(tmp_path_factory):
    with serving_usage(tmp_path_factory.mktemp("many"), calls_of_many_tenants()) as service:
        yield service


@pytest.fixture
def open_usage(open_window):
    """Open the page with a key, and wait for its report."""

    def open_report(service, *, key="admin", choice="", **options):
        path = f"usage#{choice}" if choice else "usage"
        window = open_window(service, path=path, key=service.keys[key], **options)
        return settled(window)

    return open_report


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


# What can be chosen


def test_filters_and_the_address_keep_the_choice(open_usage, usage):
    """A report can be reloaded, and shared as a link."""
    window = open_usage(usage)
    window.part("#tenant").select_option("support")
    settled(window)
    choose(window, "period", "7d")
    before = window.text("#cost")
    window.page.reload()
    settled(window)

    assert before == window.text("#cost") == f"${cost_of(in_period(usage.rows, '7d'), tenant='support'):.2f}"
    expect(window.part("#tenant")).to_have_value("support")
    window.part("#tenant").select_option("")
    window.part("#model").select_option("acme/small")
    settled(window)
    expect(window.part("#latencies .who")).to_have_text(["acme/small"])


def test_the_csv_file_has_the_report(open_usage, usage):
    """The link sends the key, which a plain link cannot."""
    window = open_usage(usage, choice="period=7d&tenant=search")
    with window.page.expect_download() as caught:
        window.part("#csv").click()
    text = caught.value.path().read_text(encoding="utf-8")
    lines = list(csv.DictReader(io.StringIO(text)))

    assert "usage-7d.csv" == caught.value.suggested_filename
    assert {"search"} == {line["tenant"] for line in lines}
    assert cost_of(in_period(usage.rows, "7d"), tenant="search") == sum(
        float(line["cost_usd"]) for line in lines
    )


def test_a_file_that_cannot_be_downloaded_leaves_the_report(open_usage, tmp_path):
    """The page says why."""
    with serving_usage(tmp_path, calls_of_many_tenants()) as service:
        window = open_usage(service, errors_expected=True)
    window.part("#csv").click()

    expect(window.part("#remark")).to_contain_text("The file cannot be downloaded")
    expect(window.part("#report")).to_be_visible()


def test_a_key_sees_its_own_tenant(open_usage, usage):
    """The other tenants are neither in the report nor among the filters."""
    window = open_usage(usage, key="search")

    assert ["All tenants", "search"] == window.part("#tenant option").all_text_contents()
    assert cost_of(in_period(usage.rows, "30d"), tenant="search") == amount(window.text("#cost"))
    assert {"search"} == {text.split()[0] for text in window.part(".budget .who").all_text_contents()}


def test_the_console_links_to_the_page(open_window, usage):
    """The key stays in the tab."""
    window = open_window(usage, key=usage.keys["admin"]).filled()
    window.page.get_by_role("link", name="Usage").click()
    settled(window)
    expect(window.page.get_by_role("link", name="Usage")).to_have_attribute("aria-current", "page")
    window.page.get_by_role("link", name="Models").click()
    window.filled()


# States


def test_without_a_key_the_page_asks_for_one(open_window, usage):
    """And loads the report when it is entered; meanwhile it says that it is loading."""
    window = open_window(usage, path="usage", errors_expected=True)
    expect(window.part("#notice-title")).to_have_text("A key is needed")
    expect(window.part("#report")).to_be_hidden()

    held = []

    def hold(route):
        held.append(route)

    window.page.route("**/usage.json*", hold)
    window.part("#key").fill(usage.keys["admin"])
    window.part("#key").press("Enter")
    expect(window.part("#notice-title")).to_have_text("Loading")
    for route in held:
        route.continue_()
    settled(window)
    expect(window.part("#notice")).to_be_hidden()


def test_a_key_without_the_scope_is_told_which_one_it_needs(open_window, usage):
    """The reason is in words, not only a status."""
    window = open_window(usage, path="usage", key=usage.keys["chat"], errors_expected=True)

    expect(window.part("#notice-title")).to_have_text("This key cannot read usage")
    expect(window.part("#notice-text")).to_contain_text("scope usage")


def test_without_a_ledger_the_page_names_the_flag(open_window, served):
    """The report needs one."""
    window = open_window(served, path="usage", errors_expected=True)

    expect(window.part("#notice-title")).to_have_text("Usage is not recorded")
    expect(window.part("#notice-code")).to_contain_text("--usage-database")


def test_a_ledger_without_calls_is_an_empty_report(open_window, tmp_path):
    """Without tenants, too, which have the budgets."""
    with serving("--console", "--usage-database", f"sqlite:///{tmp_path}/usage.sqlite") as service:
        window = settled(open_window(service, path="usage#period=last-month", errors_expected=True))

        expect(window.part("#notice-title")).to_have_text("No calls in this period")
        expect(window.part("#budgets")).to_contain_text("No tenant that you may see has a budget")
        expect(window.part("#bars")).to_be_hidden()


def test_a_failed_report_can_be_requested_again(open_usage, tmp_path):
    """After the service was away."""
    rows = calls_of_many_tenants()
    with serving_usage(tmp_path, rows) as service:
        window = open_usage(service, errors_expected=True)
        address = service.base_url.removeprefix("http://").removesuffix("/v1")
    window.part("#refresh").click()
    expect(window.part("#notice-title")).to_have_text("The report failed")
    expect(window.part("#report")).to_be_hidden()

    with serving_usage(tmp_path, [], http=address):
        window.page.get_by_role("button", name=FAILURE).click()
        settled(window)
        assert sum(range(1, 41)) == amount(window.text("#cost"))


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
