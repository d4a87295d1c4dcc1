"""`togetherchat usage` and `togetherchat quotas`: in a pipe, as JSON, as CSV and on a terminal."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from support.client_command import run
from support.client_terminal import terminal
from support.scripted_service import Failure, ScriptedService, serving
from togetherchat.v1 import usage_service_pb2 as usage

DAY_S = 86_400
START_S = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp())
PERIOD = {
    "start_time": Timestamp(seconds=START_S),
    "end_time": Timestamp(seconds=START_S + 3 * DAY_S),
}
TENANT, DAY = usage.USAGE_DIMENSION_TENANT, usage.USAGE_DIMENSION_DAY
ACME = usage.UsageRow(
    tenant="acme",
    calls=1204,
    failed_calls=3,
    input_tokens=410233,
    output_tokens=99120,
    cost_nano_usd=118_400_250,
    estimated_cost_nano_usd=1_200_000,
    duration_p50=Duration(nanos=812_000_000),
    duration_p95=Duration(seconds=4, nanos=100_000_000),
)
FORMULA = usage.UsageRow(tenant="=1+1", calls=1, unpriced_calls=1)
TOTAL = usage.UsageRow(
    calls=1205, cost_nano_usd=118_400_250, estimated_cost_nano_usd=1_200_000, unpriced_calls=1
)
FIRST = usage.QueryUsageResponse(rows=[ACME], total=TOTAL, next_page_token="more", **PERIOD)
LAST = usage.QueryUsageResponse(rows=[FORMULA], total=TOTAL, **PERIOD)
BY_DAY = usage.QueryUsageResponse(
    rows=[
        usage.UsageRow(tenant="acme", start_time=Timestamp(seconds=START_S + day * DAY_S), cost_nano_usd=cost)
        for day, cost in ((0, 100_000_000), (2, 18_400_250))
    ],
    **PERIOD,
)
QUOTAS = usage.ListQuotasResponse(
    quotas=[
        usage.Quota(
            tenant="acme",
            metric=usage.QUOTA_METRIC_COST_PER_DAY,
            limit=30_000_000_000,
            used=24_500_000_000,
            reserved=500_000_000,
            left=5_000_000_000,
            reset_time=Timestamp(seconds=START_S),
        ),
        usage.Quota(tenant="acme", metric=usage.QUOTA_METRIC_REQUESTS_PER_MINUTE, limit=60, left=60),
    ]
)


async def test_in_a_pipe_each_row_is_a_line():
    """Names, counters and the cost, unrounded, from all pages."""
    scripted = ScriptedService(QueryUsage=[[FIRST], [LAST]])
    async with serving(scripted) as target:
        ended = await run(target, "usage", "--by", "tenant")

    assert (0, "") == (ended.code, ended.err)
    first, second = (line.split("\t") for line in ended.out.splitlines())
    assert ["acme", "1204", "3", "410233", "99120"] == first[:5]
    assert ("0.118400250", "=1+1") == (first[-1], second[0])
    assert ["", "more"] == [seen.request.page_token for seen in scripted.seen]


async def test_the_options_become_fields_of_the_request():
    """Each filter may be repeated; OK stands for success."""
    scripted = ScriptedService(QueryUsage=[[LAST]])
    options = (
        "--since 2026-11-01 --until 2026-11-30T12:00:00+01:00 --by tenant,day --tenant acme --tenant globex"
    )
    more = "--model a/b --key 5f0c2a91d3b7 --user u-7 --reason OK --reason OVERLOADED"
    async with serving(scripted) as target:
        await run(target, "usage", *options.split(), *more.split())

    expected = usage.QueryUsageRequest(
        start_time=PERIOD["start_time"],
        group_by=[TENANT, DAY],
        tenants=["acme", "globex"],
        models=["a/b"],
        keys=["5f0c2a91d3b7"],
        users=["u-7"],
        reasons=["", "OVERLOADED"],
        page_size=10_000,
    )
    expected.end_time.FromDatetime(datetime(2026, 11, 30, 11, tzinfo=UTC))
    assert expected == scripted.seen[0].request


async def test_a_duration_is_before_now():
    """It is measured on the caller's clock."""
    scripted = ScriptedService(QueryUsage=[[LAST]])
    before = datetime.now(UTC)
    async with serving(scripted) as target:
        await run(target, "usage", "--since", "7d")
    sent = scripted.seen[0].request.start_time.ToDatetime(tzinfo=UTC)

    assert before <= sent + timedelta(days=7) <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--since", "yesterday"), "'yesterday' must be a duration before now such as 15m"),
        (("--until", "2026-11-30T12:00:00"), "or an RFC 3339 time with its zone"),
        (("--since", "999999w"), "must be a duration before now"),
        (("--by", "tenant,colour"), "'colour' is not one of tenant, model, day, hour, key, user, reason"),
        (("--json", "--csv"), "--json and --csv contradict each other"),
    ],
)
async def test_wrong_usage_ends_with_2(options, message):
    """Nothing is sent; the error names the option and the rule."""
    scripted = ScriptedService(QueryUsage=[[LAST]])
    async with serving(scripted) as target:
        ended = await run(target, "usage", *options)

    assert (2, "") == (ended.code, ended.out)
    assert message in ended.err
    assert [] == scripted.seen


async def test_json_is_the_message_of_the_contract():
    """All pages are one document."""
    async with serving(ScriptedService(QueryUsage=[[FIRST], [LAST]])) as target:
        ended = await run(target, "usage", "--by", "tenant", "--json")

    report = json.loads(ended.out)
    assert ["acme", "=1+1"] == [row["tenant"] for row in report["rows"]]
    assert "next_page_token" not in report


async def test_csv_has_headings_and_no_formula():
    """A name that begins as a formula gets an apostrophe."""
    async with serving(ScriptedService(QueryUsage=[[FIRST], [LAST]])) as target:
        ended = await run(target, "usage", "--by", "tenant", "--csv")

    headings, first, second = csv.reader(io.StringIO(ended.out, newline=""))
    assert ("tenant", "calls", "cost_usd") == (headings[0], headings[1], headings[-1])
    assert ("acme", "1204", "0.118400250") == (first[0], first[1], first[-1])
    assert "'=1+1" == second[0]


async def test_a_terminal_shows_totals_and_a_sparkline_for_each_row():
    """The days are those of the same period, and the note says what is not certain."""
    scripted = ScriptedService(QueryUsage=[[FIRST], [LAST], [BY_DAY]])
    async with serving(scripted) as target, terminal(target, "usage", "--by", "tenant") as screen:
        await screen.until("has no price")
        assert 0 == await screen.ended()

    lines = screen.text[screen.text.index("tenant ") :].splitlines()
    heading, acme, _, total = (line.rstrip() for line in lines[:4])
    assert ["tenant", "calls"] == heading.split()[:2]
    assert heading.endswith("per day")
    assert acme.startswith("acme")
    assert "$0.1184" in acme
    assert acme.endswith("█ ▂"), acme
    assert total.startswith("total")
    note = " ".join(screen.text.split())
    assert "2026-11-01 00:00 to 2026-11-04 00:00 UTC; $0.001200000 of the cost is estimated" in note
    assert [[TENANT], [TENANT], [TENANT, DAY]] == [list(seen.request.group_by) for seen in scripted.seen]


async def test_quotas_in_a_pipe_are_exact_and_on_a_terminal_in_dollars():
    """Amounts of money are 1e-9 USD in a pipe."""
    scripted = ScriptedService(ListQuotas=[[QUOTAS]])
    async with serving(scripted) as target:
        piped = await run(target, "quotas", "--tenant", "acme")
        async with terminal(target, "quotas") as screen:
            await screen.until("requests_per_minute")
            assert 0 == await screen.ended()
        as_json = await run(target, "quotas", "--json")

    assert [
        [
            "acme",
            "cost_per_day",
            "30000000000",
            "24500000000",
            "500000000",
            "5000000000",
            "2026-11-01T00:00:00Z",
        ],
        ["acme", "requests_per_minute", "60", "0", "0", "60", "-"],
    ] == [line.split("\t") for line in piped.out.splitlines()]
    assert "$24.50" in screen.text
    assert "QUOTA_METRIC_COST_PER_DAY" == json.loads(as_json.out)["quotas"][0]["metric"]
    assert usage.ListQuotasRequest(tenants=["acme"]) == scripted.seen[0].request


async def test_a_service_without_a_ledger_has_a_hint():
    """The exit code is that of a failure of the service."""
    failure = Failure(code=grpc.StatusCode.UNIMPLEMENTED, reason="USAGE_NOT_RECORDED")
    async with serving(ScriptedService(QueryUsage=[[failure]])) as target:
        ended = await run(target, "usage")

    assert 1 == ended.code
    assert "USAGE_NOT_RECORDED" in ended.err
    assert "--usage-database" in ended.err
