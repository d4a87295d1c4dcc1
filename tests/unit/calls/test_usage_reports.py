"""What may be asked of UsageService: every rule of a request, and what a caller is limited to."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from support.memory_usage import DAY_US, HOUR_US, NOON_US, MemoryLedger, ledger_row
from togetherchat.v1 import usage_service_pb2 as service
from togetherchat_server.calls.usage_reports import UsageReports, usage_query
from togetherchat_server.domain.identity import ANONYMOUS, KEY_SCOPES, Identity, Scope
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.usage.report import Dimension, UsageQuery

Request = service.QueryUsageRequest
ACME = Identity(tenant="acme", scopes=KEY_SCOPES)
MONTH_START_US = NOON_US - 12 * HOUR_US - 29 * DAY_US
YEARS_11 = Timestamp(seconds=NOON_US // 10**6 - 11 * 366 * 86_400)
NOON = Timestamp(seconds=NOON_US // 10**6)
TENANT, DAY, HOUR = (
    service.USAGE_DIMENSION_TENANT,
    service.USAGE_DIMENSION_DAY,
    service.USAGE_DIMENSION_HOUR,
)


def violated(request: Request) -> list[str]:
    with pytest.raises(ServiceError) as raised:
        usage_query(request, ANONYMOUS, NOON_US)
    assert Reason.INVALID_REQUEST is raised.value.reason
    return [violation.field for violation in raised.value.violations]


def test_the_default_period_is_the_month_until_now():
    """And the default report is one row for all calls that the caller may see."""
    assert UsageQuery(start_us=MONTH_START_US, end_us=NOON_US, filters={}, limit=1000) == usage_query(
        Request(), ANONYMOUS, NOON_US
    )


def test_a_caller_without_the_scope_admin_is_limited_to_its_tenant():
    """With the scope, no tenant means all of them, and the caller's own tenant is one among others."""
    admin = Identity(tenant="acme", scopes=frozenset({Scope.ADMIN}))

    assert {Dimension.TENANT: ("acme",)} == usage_query(Request(), ACME, NOON_US).filters
    assert {} == usage_query(Request(), admin, NOON_US).filters
    with pytest.raises(ServiceError) as raised:
        usage_query(Request(tenants=["globex"]), ACME, NOON_US)
    assert Reason.CALLER_NOT_PERMITTED is raised.value.reason


def test_every_filter_reaches_the_query():
    """An empty reason stands for calls that succeeded."""
    request = Request(tenants=["a"], models=["m"], keys=["k"], users=["u"], reasons=["", "OVERLOADED"])

    assert {
        Dimension.TENANT: ("a",),
        Dimension.MODEL: ("m",),
        Dimension.KEY: ("k",),
        Dimension.USER: ("u",),
        Dimension.REASON: ("", "OVERLOADED"),
    } == usage_query(request, ANONYMOUS, NOON_US).filters


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        (Request(group_by=[TENANT, TENANT]), ["group_by"]),
        (Request(group_by=[0]), ["group_by"]),
        (Request(group_by=[99]), ["group_by"]),
        (Request(page_size=-1), ["page_size"]),
        (Request(page_size=10_001), ["page_size"]),
        (Request(page_token="x"), ["page_token"]),
        (Request(page_token="x" * 5000), ["page_token"]),
        (Request(start_time=NOON), ["start_time"]),
        (Request(start_time=NOON, end_time=NOON), ["start_time"]),
        (Request(start_time=YEARS_11), ["start_time"]),
        (Request(start_time=Timestamp(seconds=-1)), ["start_time"]),
        (Request(end_time=Timestamp(seconds=2**60)), ["end_time"]),
        (Request(start_time=Timestamp(nanos=-5), end_time=Timestamp(seconds=9)), ["start_time"]),
        (Request(tenants=["t"] * 101), ["tenants"]),
        (Request(models=["m" * 1025], keys=["k" * 1025]), ["models", "keys"]),
        (Request(users=["u"] * 101, reasons=["r"] * 101, page_size=-1), ["users", "reasons", "page_size"]),
    ],
)
def test_every_violation_is_named(request_, fields):
    """All fields that break a rule are in one error."""
    assert fields == violated(request_)


def test_a_moment_within_a_microsecond_is_rounded_up():
    """A row at the start belongs to the period, and one at the end does not."""
    request = Request(start_time=Timestamp(seconds=5, nanos=1), end_time=Timestamp(seconds=6, nanos=1000))
    query = usage_query(request, ANONYMOUS, NOON_US)

    assert (5_000_001, 6_000_001) == (query.start_us, query.end_us)


async def test_hours_win_over_days_in_the_start_time():
    """A row has one start time: that of its finest dimension."""
    reports = UsageReports(usage=MemoryLedger([ledger_row(time_us=NOON_US + 5)]), quotas=None)
    request = Request(group_by=[HOUR, DAY], end_time=Timestamp(seconds=NOON_US // 10**6 + 1))
    response = await reports.query(request, ANONYMOUS, NOON_US)

    assert [NOON] == [row.start_time for row in response.rows]


@given(more=st.lists(st.characters(), min_size=1, max_size=3).map("".join))
async def test_a_token_that_was_changed_is_rejected(more):
    """So is one whose query differs, but the size of the page may change."""
    rows = [ledger_row(number, tenant=f"t{number}") for number in range(3)]
    reports = UsageReports(usage=MemoryLedger(rows), quotas=None)
    first = await reports.query(Request(group_by=[TENANT], page_size=1), ANONYMOUS, NOON_US + 1)
    token = first.next_page_token
    rest = await reports.query(Request(group_by=[TENANT], page_token=token), ANONYMOUS, NOON_US + DAY_US)

    assert ["t1", "t2"] == [row.tenant for row in rest.rows]
    assert ["page_token"] == violated(Request(group_by=[TENANT], page_token=token + more))
    assert ["page_token"] == violated(Request(group_by=[TENANT, DAY], page_token=token))
