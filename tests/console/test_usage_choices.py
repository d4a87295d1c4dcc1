"""What can be chosen on the page Usage, and what it shows where there is no report."""

import csv
import io

from playwright.sync_api import expect
from seeded_usage import call, calls_of_many_tenants, serving_usage
from usage_window import amount, choose, cost_of, days_ago, in_period, settled, table_of

from support.service_process import serving

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


def test_reports_of_several_pages_are_complete(open_usage, tmp_path):
    """Both the chart and the file: a page of the service has at most 10,000 sums."""
    days, tenants = 30, 340
    rows = [
        call(days_ago=day, tenant=f"team-{number:03}") for day in range(days) for number in range(tenants)
    ]
    with serving_usage(tmp_path, rows) as service:
        window = open_usage(service)
        _, lines = table_of(window)
        with window.page.expect_download() as caught:
            window.part("#csv").click()
        text = caught.value.path().read_text(encoding="utf-8")

    assert {f"${tenants}.00"} == {line[-1] for line in lines}
    assert {(day, number) for day in range(days) for number in range(tenants)} == {
        (days_ago(line["day"]), int(line["tenant"].removeprefix("team-")))
        for line in csv.DictReader(io.StringIO(text))
    }
    expect(window.part("#remark")).to_be_hidden()


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
        window.page.get_by_role("button", name="Try again").click()
        settled(window)
        assert sum(range(1, 41)) == amount(window.text("#cost"))
