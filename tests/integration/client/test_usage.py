"""Usage and quotas through both clients of Python, against a scripted service on loopback."""

import asyncio
from datetime import UTC, datetime

import grpc
import pytest

from support.scripted_service import Failure, ScriptedService, serving
from togetherchat.v1 import usage_service_pb2 as usage
from togetherchat_client import (
    CallInfo,
    PermissionDeniedError,
    UnavailableError,
    UnimplementedError,
    connect,
    connect_async,
)

REPORT = usage.QueryUsageResponse(
    rows=[usage.UsageRow(tenant="acme", calls=2, cost_nano_usd=3)],
    total=usage.UsageRow(calls=2, cost_nano_usd=3),
)
QUOTA = usage.Quota(tenant="acme", metric=usage.QUOTA_METRIC_REQUESTS_PER_MINUTE, limit=60, left=60)
LIMITS = usage.ListQuotasResponse(quotas=[QUOTA])
RESET = usage.ResetQuotaResponse(quotas=[QUOTA])
METHODS = ("QueryUsage", "ListQuotas", "ResetQuota")


def scripted(**turns):
    return ScriptedService(
        **{"QueryUsage": [[REPORT]], "ListQuotas": [[LIMITS]], "ResetQuota": [[RESET]], **turns}
    )


async def test_the_arguments_become_the_fields_of_the_request():
    """Words stand for dimensions, datetimes for times; the key and the request id are metadata."""
    service = scripted()
    start = datetime(2026, 11, 1, tzinfo=UTC)
    async with serving(service) as target, connect_async(target, key="tc-key") as client:
        report = await client.query_usage(
            start_time=start, group_by=["tenant", usage.USAGE_DIMENSION_DAY], reasons=[""], request_id="r-1"
        )
        limits = await client.list_quotas(["acme"])
        reset = await client.reset_quota("acme")

    expected = usage.QueryUsageRequest(
        group_by=[usage.USAGE_DIMENSION_TENANT, usage.USAGE_DIMENSION_DAY], reasons=[""]
    )
    expected.start_time.FromDatetime(start)
    assert (REPORT, LIMITS, RESET) == (report, limits, reset)
    assert [
        expected,
        usage.ListQuotasRequest(tenants=["acme"]),
        usage.ResetQuotaRequest(tenant="acme"),
    ] == [seen.request for seen in service.seen]
    assert ("Bearer tc-key", "r-1") == tuple(
        service.seen[0].metadata[name] for name in ("authorization", "x-request-id")
    )


async def test_the_sync_client_has_the_same_methods():
    """They run in any thread, and `on_info` receives what is known of the call."""
    infos: list[CallInfo] = []

    def calls(target: str):
        with connect(target) as client:
            return (
                client.query_usage(group_by=["tenant"], on_info=infos.append),
                client.list_quotas(),
                client.reset_quota("acme"),
            )

    async with serving(scripted()) as target:
        received = await asyncio.to_thread(calls, target)

    assert (REPORT, LIMITS, RESET) == received
    assert ["sandbox"] == [info.upstream for info in infos]


async def test_calls_have_the_deadline_of_the_service_config():
    """It is 30 seconds; an argument overrides it."""
    service = scripted()
    async with serving(service) as target, connect_async(target) as client:
        await client.query_usage()
        await client.list_quotas()
        await client.reset_quota("acme", timeout_s=5)

    assert [METHODS[0], METHODS[1], METHODS[2]] == [seen.method for seen in service.seen]
    assert [30, 30, 5] == [round(seen.seconds_left) for seen in service.seen]


async def test_failures_have_their_classes():
    """As those of completions: by the reason, else by the code."""
    service = scripted(
        QueryUsage=[[Failure(code=grpc.StatusCode.UNIMPLEMENTED, reason="USAGE_NOT_RECORDED")]],
        ListQuotas=[[Failure(code=grpc.StatusCode.PERMISSION_DENIED, reason="CALLER_NOT_PERMITTED")]],
        ResetQuota=[[Failure(code=grpc.StatusCode.UNAVAILABLE, reason="USAGE_UNAVAILABLE", pushback_ms=-1)]],
    )
    async with serving(service) as target, connect_async(target) as client:
        with pytest.raises(UnimplementedError) as unrecorded:
            await client.query_usage()
        with pytest.raises(PermissionDeniedError):
            await client.list_quotas(["globex"])
        with pytest.raises(UnavailableError) as away:
            await client.reset_quota("acme")

    assert ("USAGE_NOT_RECORDED", "USAGE_UNAVAILABLE") == (unrecorded.value.reason, away.value.reason)


async def test_an_unavailable_ledger_is_asked_again():
    """gRPC retries as the service config says."""
    away = Failure(code=grpc.StatusCode.UNAVAILABLE, reason="USAGE_UNAVAILABLE", pushback_ms=1)
    service = scripted(QueryUsage=[[away], [away], [REPORT]])
    async with serving(service) as target, connect_async(target) as client:
        assert REPORT == await client.query_usage()

    assert 3 == len(service.seen)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"start_time": datetime(2026, 11, 1)}, "start_time: needs a time zone"),  # noqa: DTZ001  the case
        ({"end_time": datetime(2026, 11, 1)}, "end_time: needs a time zone"),  # noqa: DTZ001  the case
        (
            {"group_by": ["colour"]},
            "group_by: 'colour' is not one of tenant, model, day, hour, key, user, reason",
        ),
    ],
)
async def test_a_wrong_argument_is_not_sent(fields, message):
    """The error names the argument and the rule."""
    service = scripted()
    async with serving(service) as target, connect_async(target) as client:
        with pytest.raises(ValueError, match=message):
            await client.query_usage(**fields)

    assert [] == service.seen
