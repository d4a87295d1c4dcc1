"""UsageService over real channels: who sees what, pages, failures, and the audit event of a reset."""

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from support.app import failing, request, running_app
from support.audit import audited
from support.memory_usage import (
    HOUR_US,
    NOON_US,
    MemoryLedger,
    MemoryQuotas,
    install,
    ledger_row,
    quota_statuses,
)
from support.tenants import Keys, bearer
from support.waiting import poll
from togetherchat.v1 import usage_service_pb2 as usage
from togetherchat.v1 import usage_service_pb2_grpc as usage_grpc
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.tenants.key_format import key_id_of

TENANT, MODEL = usage.USAGE_DIMENSION_TENANT, usage.USAGE_DIMENSION_MODEL
PERIOD = {
    "start_time": Timestamp(seconds=(NOON_US - HOUR_US) // 10**6),
    "end_time": Timestamp(seconds=(NOON_US + HOUR_US) // 10**6),
}


def ledger(**options):
    """Return a ledger with three tenants; the costs are 3, 2 and 1 thousandths of a dollar."""
    rows = [
        ledger_row(1, tenant="acme", cost_nano_usd=3_000_000),
        ledger_row(2, tenant="globex", cost_nano_usd=2_000_000, user="u-1"),
        ledger_row(3, tenant="initech", code="UNAVAILABLE", reason="OVERLOADED"),
        ledger_row(4, tenant="acme", time_us=NOON_US + HOUR_US),
    ]
    return MemoryLedger(rows, **options)


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path / "keys")


def stub(app):
    return usage_grpc.UsageServiceStub(app.channel)


def query(**fields):
    return usage.QueryUsageRequest(**{**PERIOD, **fields})


async def test_without_authentication_everybody_sees_all_tenants():
    """The rows have only the dimensions of the request; the total is that of the period."""
    async with running_app() as app:
        install(app, usage=ledger())
        report = await stub(app).QueryUsage(query(group_by=[TENANT]))

    assert [("acme", 1), ("globex", 1), ("initech", 1)] == [(row.tenant, row.calls) for row in report.rows]
    assert not any(row.HasField("model") or row.HasField("start_time") for row in report.rows)
    assert (3, 1, 6_000_000) == (report.total.calls, report.total.failed_calls, report.total.cost_nano_usd)
    assert PERIOD == {"start_time": report.start_time, "end_time": report.end_time}


async def test_a_key_sees_its_own_tenant(keys):
    """Naming another tenant is rejected, alone or among others, in reports and in quotas."""
    key = keys.create("acme")
    async with running_app(api_keys_file=str(keys.path)) as app:
        install(app, usage=ledger(), quotas=MemoryQuotas(quota_statuses()))
        service, sent = stub(app), {"metadata": bearer(key)}
        own = await service.QueryUsage(query(group_by=[TENANT]), **sent)
        named = await service.QueryUsage(query(tenants=["acme"]), **sent)
        foreign = await failing(service.QueryUsage(query(tenants=["acme", "globex"]), **sent))
        quotas = await service.ListQuotas(usage.ListQuotasRequest(), **sent)
        foreign_quotas = await failing(
            service.ListQuotas(usage.ListQuotasRequest(tenants=["globex"]), **sent)
        )

    assert ["acme"] == [row.tenant for row in own.rows]
    assert 1 == own.total.calls == named.total.calls
    assert {"acme"} == {quota.tenant for quota in quotas.quotas}
    for failure in (foreign, foreign_quotas):
        assert (grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_PERMITTED") == (
            failure.code,
            failure.info.reason,
        )
        assert "`admin`" in failure.message


async def test_the_scope_admin_includes_all_tenants(keys):
    """A key that has this scope alone may read the usage and the quotas of all tenants, and not chat."""
    key = keys.create("operators", "--scope", "admin")
    async with running_app(api_keys_file=str(keys.path)) as app:
        install(app, usage=ledger(), quotas=MemoryQuotas(quota_statuses()))
        service, sent = stub(app), {"metadata": bearer(key)}
        report = await service.QueryUsage(query(group_by=[TENANT]), **sent)
        chosen = await service.QueryUsage(query(tenants=["globex"], users=["u-1"]), **sent)
        quotas = await service.ListQuotas(usage.ListQuotasRequest(), **sent)
        refused = await failing(app.chat.Complete(request(), **sent))

    assert 3 == len(report.rows)
    assert 1 == chosen.total.calls
    assert ["acme", "acme", "globex"] == [quota.tenant for quota in quotas.quotas]
    assert grpc.StatusCode.PERMISSION_DENIED is refused.code


async def test_a_key_without_the_scope_sees_nothing(keys):
    """Each method names the scope that it needs."""
    key = keys.create("acme", "--scope", "chat")
    async with running_app(api_keys_file=str(keys.path)) as app:
        install(app, usage=ledger(), quotas=MemoryQuotas(quota_statuses()))
        service, sent = stub(app), {"metadata": bearer(key)}
        failures = [
            await failing(service.QueryUsage(query(), **sent)),
            await failing(service.ListQuotas(usage.ListQuotasRequest(), **sent)),
            await failing(service.ResetQuota(usage.ResetQuotaRequest(tenant="acme"), **sent)),
        ]

    assert {"CALLER_NOT_PERMITTED"} == {failure.info.reason for failure in failures}
    assert ["`usage`", "`usage`", "`admin`"] == [failure.message.split()[-1] for failure in failures]


async def test_the_pages_of_a_report_make_the_whole():
    """The period of all pages is that of the first, also if its end was the moment of the call."""
    open_end = {"start_time": PERIOD["start_time"], "group_by": [TENANT]}
    async with running_app(wall_clock=lambda: (NOON_US + HOUR_US / 2) / 1e6) as app:
        install(app, usage=ledger())
        service = stub(app)
        first = await service.QueryUsage(usage.QueryUsageRequest(**open_end, page_size=2))
        second = await service.QueryUsage(
            usage.QueryUsageRequest(**open_end, page_size=2, page_token=first.next_page_token)
        )
        other = await failing(
            service.QueryUsage(
                usage.QueryUsageRequest(
                    start_time=PERIOD["start_time"], group_by=[MODEL], page_token=first.next_page_token
                )
            )
        )

    assert ["acme", "globex", "initech"] == [row.tenant for row in (*first.rows, *second.rows)]
    assert (first.start_time, first.end_time, first.total) == (
        second.start_time,
        second.end_time,
        second.total,
    )
    assert "" == second.next_page_token
    assert (grpc.StatusCode.INVALID_ARGUMENT, "page_token") == (
        other.code,
        other.details["BadRequest"].field_violations[0].field,
    )


async def test_a_reset_admits_the_tenant_again_and_is_audited(keys):
    """Requests and tokens per minute are forgotten, money is not; the event names the caller and the tenant."""
    key = keys.create("operators", "--scope", "admin")
    async with running_app(api_keys_file=str(keys.path)) as app:
        install(app, quotas=MemoryQuotas(quota_statuses()))
        with audited() as lines:
            response = await stub(app).ResetQuota(
                usage.ResetQuotaRequest(tenant="acme"), metadata=bearer(key, ("x-request-id", "r-1"))
            )
        unknown = await failing(
            stub(app).ResetQuota(usage.ResetQuotaRequest(tenant="nobody"), metadata=bearer(key))
        )

    assert [
        (usage.QUOTA_METRIC_REQUESTS_PER_MINUTE, 0, 60),
        (usage.QUOTA_METRIC_COST_PER_DAY, 24 * 10**9, 0),
    ] == [(quota.metric, quota.used, quota.left) for quota in response.quotas]
    (event,) = [line for line in lines.events() if line["event"] == "quota_reset"]
    assert {
        "event": "quota_reset",
        "key_id": key_id_of(key),
        "tenant": "operators",
        "quota_tenant": "acme",
        "client_address": "127.0.0.1",
        "protocol": "grpc",
        "method": "/togetherchat.v1.UsageService/ResetQuota",
        "request_id": "r-1",
    } == event
    assert "tenant" == unknown.details["BadRequest"].field_violations[0].field


async def test_a_service_without_a_ledger_says_so():
    """The code is UNIMPLEMENTED, which clients do not retry."""
    async with running_app() as app:
        service = stub(app)
        failures = [
            await failing(service.QueryUsage(query())),
            await failing(service.ListQuotas(usage.ListQuotasRequest())),
            await failing(service.ResetQuota(usage.ResetQuotaRequest(tenant="acme"))),
        ]

    assert [(grpc.StatusCode.UNIMPLEMENTED, "USAGE_NOT_RECORDED", "false")] * 3 == [
        (failure.code, failure.info.reason, failure.trailers["x-error-retryable"]) for failure in failures
    ]


async def test_a_ledger_that_does_not_answer_can_be_asked_again():
    """The failure is retryable, with a delay."""
    away = ServiceError(Reason.USAGE_UNAVAILABLE, "the usage database does not answer")
    async with running_app() as app:
        install(app, usage=ledger(failure=away))
        failure = await failing(stub(app).QueryUsage(query()))

    assert (grpc.StatusCode.UNAVAILABLE, "USAGE_UNAVAILABLE") == (failure.code, failure.info.reason)
    assert "RetryInfo" in failure.details
    assert int(failure.pushback) > 0


async def test_calls_about_usage_are_recorded_but_are_no_usage():
    """The log and the metrics have them; a record says that it is not metered, rejected calls included."""
    records = []
    async with running_app() as app:
        install(app, usage=ledger(), quotas=MemoryQuotas(quota_statuses()))
        parts = app.app.frontends.sessions._parts
        object.__setattr__(parts, "sinks", (*parts.sinks, records.append))
        await stub(app).QueryUsage(query())
        await failing(stub(app).QueryUsage(query(page_size=-1)))
        await stub(app).ResetQuota(usage.ResetQuotaRequest(tenant="acme"))
        await app.chat.Complete(request())

    assert ["QueryUsage", "QueryUsage", "ResetQuota", "Complete"] == [
        record["method"].rpartition("/")[2] for record in app.records()
    ]
    assert [False, False, False, True] == [record.metered for record in records]
    assert 0 == app.admission.in_flight


async def test_the_ledger_of_the_service_has_its_calls_and_no_reports(tmp_path):
    """With a real database: however often a report is read, it has the completions alone, with their user."""
    database = f"sqlite:///{tmp_path}/usage.sqlite"
    async with running_app(usage_database=database, sandbox_tokens_per_second=0) as app:
        service = stub(app)
        for user in ("u-1", "u-2"):
            await app.chat.Complete(request(model="openai/gpt-oss-120b", user=user))
        by_user = usage.QueryUsageRequest(group_by=[usage.USAGE_DIMENSION_USER])

        async def recorded(calls):
            report = await service.QueryUsage(by_user)
            return report if report.total.calls >= calls else None

        await poll(lambda: recorded(2))
        await app.chat.Complete(request(model="openai/gpt-oss-120b", user="u-3"))
        report = await poll(lambda: recorded(3))

    assert {"u-1": 1, "u-2": 1, "u-3": 1} == {row.user: row.calls for row in report.rows}
    assert report.total.input_tokens > 0
    assert report.total.HasField("duration_p50")
