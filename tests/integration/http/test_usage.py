"""`/usage.json`, `/usage.csv` and `/quotas.json` over HTTP: parameters, pages, keys and failures."""

import csv
import io

import pytest

from support.http_client import running_http
from support.memory_usage import (
    DAY_US,
    HOUR_US,
    NOON_US,
    MemoryLedger,
    MemoryQuotas,
    install,
    ledger_row,
    quota_statuses,
)
from support.tenants import Keys

NOW_US = NOON_US + HOUR_US // 2
PATHS = ("/usage.json", "/usage.csv", "/quotas.json")


def ledger():
    """Return a ledger with three tenants, and one row of the month before."""
    rows = [
        ledger_row(1, tenant="acme", cost_nano_usd=3_000_000, first_token_us=40_000),
        ledger_row(2, tenant="globex", cost_nano_usd=2_000_000, user="a,b"),
        ledger_row(
            3, tenant="initech", code="UNAVAILABLE", reason="OVERLOADED", time_us=NOON_US - 2 * DAY_US
        ),
        ledger_row(4, tenant="acme", time_us=NOON_US - 40 * DAY_US),
    ]
    return MemoryLedger(rows)


def running(**settings):
    return running_http(wall_clock=lambda: NOW_US / 1e6, **settings)


def bearer(key):
    return {"authorization": f"Bearer {key}"}


async def test_a_report_has_the_rows_of_its_period():
    """The default is this month until now, in one row."""
    async with running() as http:
        install(http.app, usage=ledger())
        month = (await http.client.get("/usage.json")).json()
        week = (await http.client.get("/usage.json?since=7d&by=tenant,day")).json()

    assert ("2026-11-01T00:00:00Z", "2026-11-30T12:30:00Z") == (month["start_time"], month["end_time"])
    assert ([], [3], None) == (month["group_by"], [row["calls"] for row in month["rows"]], month["next_page"])
    assert ["tenant", "day"] == week["group_by"]
    assert [("initech", "2026-11-28"), ("acme", "2026-11-30"), ("globex", "2026-11-30")] == [
        (row["tenant"], row["day"]) for row in week["rows"]
    ]
    assert {"p50": 40.0, "p95": 40.0} == week["rows"][1]["first_token_ms"]
    assert ("0.006000000", 6_000_000) == (week["total"]["cost_usd"], week["total"]["cost_nano_usd"])


@pytest.mark.parametrize(
    ("query", "calls"),
    [
        ("since=15m", 0),
        ("since=1h", 2),
        ("since=24h", 2),
        ("since=10w", 4),
        ("since=2026-11-28&until=2026-11-29", 1),
        ("since=2026-11-30T12:00:00Z", 2),
        ("since=2026-11-30T14:00:00%2B02:00", 2),
        ("since=2026-11-30T14:00:00+02:00", 2),
        ("since=2026-11-30T12:00:00.000001Z", 0),
        ("since=10w&until=7d", 1),
        ("tenant=acme", 1),
        ("tenant=acme,globex&tenant=initech", 3),
        ("user=a,b", 1),
        ("key=5f0c2a91d3b7", 3),
        ("model=some/model", 3),
        ("reason=OVERLOADED", 1),
        ("reason=OK", 2),
        ("reason=OK,OVERLOADED", 3),
        ("until=&tenant=&by=", 3),
    ],
)
async def test_the_parameters_choose_the_calls(query, calls):
    """An empty value is as none."""
    async with running() as http:
        install(http.app, usage=ledger())
        response = await http.client.get(f"/usage.json?{query}")

    assert 200 == response.status_code, response.text
    assert calls == response.json()["total"]["calls"]


@pytest.mark.parametrize(
    ("query", "parameter", "rule"),
    [
        ("since=yesterday", "since", "must be a duration before now"),
        ("since=7y", "since", "must be a duration before now"),
        ("until=2026-02-30", "until", "must be a duration before now"),
        ("since=2026-11-30T12:00:00", "since", "must be a duration before now"),
        ("since=%00", "since", "must be a duration before now"),
        ("since=99999999w", "since", "must be a moment from 1970 to 9999"),
        ("since=1d&until=2d", "since", "must be before until"),
        ("since=600w", "since", "must be at most 10 years before until"),
        ("since=1d&since=2d", "since", "must be given once"),
        ("by=tenant,colour", "by", "must be a list of tenant, model, day"),
        ("by=tenant,tenant", "by", "must have each value once"),
        ("limit=0", "limit", "must be 1 to 10000"),
        ("limit=10001", "limit", "must be 1 to 10000"),
        ("limit=%D9%A3", "limit", "must be 1 to 10000"),
        ("page=x", "page", "must be the next_page of a response"),
        ("tenants=acme", "tenants", "is not a parameter; there are since"),
        ("user=%ff", "query", "must be UTF-8"),
    ],
)
async def test_an_invalid_parameter_is_named_with_its_rule(query, parameter, rule):
    """The status is 400, for CSV too."""
    async with running() as http:
        install(http.app, usage=ledger())
        failures = [await http.client.get(f"{path}?{query}") for path in ("/usage.json", "/usage.csv")]

    for failure in failures:
        error = failure.json()["error"]
        assert (400, parameter) == (failure.status_code, error["param"])
        assert f"{parameter}: {rule}" in error["message"]


async def test_pages_follow_each_other():
    """The token is in the document, and for CSV in a header."""
    async with running() as http:
        install(http.app, usage=ledger())
        first = (await http.client.get("/usage.json?by=tenant&limit=2")).json()
        rest = (await http.client.get(f"/usage.json?by=tenant&page={first['next_page']}")).json()
        first_csv = await http.client.get("/usage.csv?by=tenant&limit=2")
        rest_csv = await http.client.get(f"/usage.csv?by=tenant&page={first_csv.headers['x-next-page']}")

    assert ["acme", "globex", "initech"] == [row["tenant"] for row in (*first["rows"], *rest["rows"])]
    assert (None, first["total"]) == (rest["next_page"], rest["total"])
    assert "initech" in rest_csv.text
    assert "x-next-page" not in rest_csv.headers


async def test_csv_has_all_rows_that_a_page_can_have():
    """The default is 10,000 rows, and the response is a file."""
    rows = [ledger_row(number, tenant=f"t{number}") for number in range(1500)]
    async with running() as http:
        install(http.app, usage=MemoryLedger(rows))
        response = await http.client.get("/usage.csv?by=tenant")

    headings, *lines = csv.reader(io.StringIO(response.text, newline=""))
    assert ("tenant", 1500) == (headings[0], len(lines))
    assert response.headers["content-type"].startswith("text/csv")
    assert 'attachment; filename="usage.csv"' == response.headers["content-disposition"]
    assert "no-store" == response.headers["cache-control"]


async def test_keys_are_required_wherever_keys_are_on(tmp_path):
    """A key sees its own tenant, one with the scope `admin` all; without a key there is nothing."""
    keys = Keys(tmp_path / "keys")
    acme, admin = keys.create("acme"), keys.create("operators", "--scope", "admin")
    async with running(api_keys_file=str(keys.path)) as http:
        install(http.app, usage=ledger(), quotas=MemoryQuotas(quota_statuses()))
        unknown = [(await http.client.get(path)).status_code for path in PATHS]
        own = (await http.client.get("/usage.json?by=tenant", headers=bearer(acme))).json()
        foreign = await http.client.get("/usage.json?tenant=globex", headers=bearer(acme))
        every = (await http.client.get("/usage.json?by=tenant", headers=bearer(admin))).json()
        quotas = (await http.client.get("/quotas.json", headers=bearer(acme))).json()["quotas"]
        one = (await http.client.get("/quotas.json?tenant=globex", headers=bearer(admin))).json()["quotas"]

    assert [401, 401, 401] == unknown
    assert ["acme"] == [row["tenant"] for row in own["rows"]]
    assert (403, "caller_not_permitted") == (foreign.status_code, foreign.json()["error"]["code"])
    assert 3 == len(every["rows"])
    assert ["requests_per_minute", "budget_usd_per_day"] == [quota["metric"] for quota in quotas]
    assert [("globex", 0)] == [(quota["tenant"], quota["left"]) for quota in one]


async def test_a_service_without_a_ledger_says_so():
    """The status is 501, and clients do not retry."""
    async with running() as http:
        failures = [await http.client.get(path) for path in PATHS]

    assert [(501, "usage_not_recorded", "false")] * 3 == [
        (failure.status_code, failure.json()["error"]["code"], failure.headers["x-should-retry"])
        for failure in failures
    ]


async def test_pages_of_other_sites_cannot_read_reports():
    """Neither under a name that resolves to this machine, nor by a request of their own."""
    async with running() as http:
        install(http.app, usage=ledger(), quotas=MemoryQuotas(quota_statuses()))
        rebound = [
            await http.client.get(path, headers={"host": f"example.com:{http.port}"}) for path in PATHS
        ]
        foreign = [await http.client.get(path, headers={"origin": "https://example.com"}) for path in PATHS]

    assert ["foreign_host"] * 3 == [response.json()["error"]["code"] for response in rebound]
    assert ["foreign_origin"] * 3 == [response.json()["error"]["code"] for response in foreign]


async def test_the_paths_are_described_and_support_reading_alone():
    """HEAD is as GET without a body."""
    async with running() as http:
        install(http.app, usage=ledger(), quotas=MemoryQuotas(quota_statuses()))
        described = (await http.client.get("/openapi.json")).json()["paths"]
        heads = [await http.client.head(path) for path in PATHS]
        posts = [await http.client.post(path, json={}) for path in PATHS]

    assert {*PATHS} <= described.keys()
    assert [(200, b"")] * 3 == [(response.status_code, response.content) for response in heads]
    assert [405] * 3 == [response.status_code for response in posts]
