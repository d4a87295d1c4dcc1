"""UsageService on top of the ledger and the quotas: what may be asked, and what a caller may see.

Validates requests, limits a caller to its own tenant unless its credential has the scope `admin`, and
reads. Knows neither the database nor where the quotas are counted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from togetherchat.v1 import usage_service_pb2 as service
from togetherchat_server.calls.usage_messages import DIMENSIONS, SECOND_US, quota_message, usage_response
from togetherchat_server.calls.validation.violations import Violations
from togetherchat_server.domain.identity import Identity, Scope
from togetherchat_server.domain.page_token import TOKEN_CHARACTERS_MAX, page_token, position_of
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.tenants.quota_status import QuotaReader
from togetherchat_server.usage.report import ROWS_MAX, Dimension, UsageQuery, UsageReader

PAGE_SIZE_DEFAULT: Final = 1000
VALUES_MAX: Final = 100
"""Values of one filter, and tenants of one request for quotas."""
TEXT_CHARACTERS_MAX: Final = 1024
VIOLATIONS_MAX: Final = 16
PERIOD_MAX_US: Final = 3653 * 86_400 * SECOND_US
"""Ten years, with the leap days that they have at most."""
OFFSET_MAX: Final = 100_000_000
_TIME_SECONDS_MAX: Final = 253_402_300_799
"""The end of the year 9999, the last one of a Timestamp."""
_NANOS_MAX: Final = 999_999_999

NO_LEDGER: Final = "this service records no usage"
NO_QUOTAS: Final = "this service has no tenants with quotas"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReports:
    """The readers behind UsageService; None for what the service does not have."""

    usage: UsageReader | None
    quotas: QuotaReader | None

    async def query(
        self, request: service.QueryUsageRequest, identity: Identity, now_us: int
    ) -> service.QueryUsageResponse:
        """Return one page of a report. `now_us` is when the call arrived, in microseconds since 1970.

        Raises:
            ServiceError: INVALID_REQUEST, CALLER_NOT_PERMITTED, USAGE_NOT_RECORDED, USAGE_UNAVAILABLE.
        """
        if self.usage is None:
            raise ServiceError(Reason.USAGE_NOT_RECORDED, NO_LEDGER)
        query = usage_query(request, identity, now_us)
        report = await self.usage.query(query)
        response = usage_response(query, report)
        if report.more:
            position = (query.start_us, query.end_us, query.offset + len(report.groups))
            response.next_page_token = page_token(position, request)
        return response

    async def list_quotas(
        self, request: service.ListQuotasRequest, identity: Identity
    ) -> service.ListQuotasResponse:
        """Return the quotas of the tenants that the caller names, or of all that it may see.

        Raises:
            ServiceError: INVALID_REQUEST, CALLER_NOT_PERMITTED, USAGE_NOT_RECORDED, USAGE_UNAVAILABLE.
        """
        quotas = self._quotas()
        violations = Violations(VIOLATIONS_MAX)
        _check_values("tenants", request.tenants, violations)
        violations.raise_if_any()
        statuses = await quotas.statuses(_visible_tenants(request.tenants, identity))
        return service.ListQuotasResponse(quotas=map(quota_message, statuses))

    async def reset(self, request: service.ResetQuotaRequest) -> service.ResetQuotaResponse:
        """Reset the quotas of a tenant, and return them.

        Raises:
            ServiceError: INVALID_REQUEST, also for a tenant without limits; USAGE_NOT_RECORDED,
                USAGE_UNAVAILABLE.
        """
        quotas = self._quotas()
        violations = Violations(VIOLATIONS_MAX)
        if not request.tenant:
            violations.add("tenant", "is required")
        _check_values("tenant", (request.tenant,), violations)
        violations.raise_if_any()
        if not await quotas.statuses((request.tenant,)):
            violations.add("tenant", "must be a tenant with limits")
            violations.raise_if_any()
        await quotas.reset(request.tenant)
        statuses = await quotas.statuses((request.tenant,))
        return service.ResetQuotaResponse(quotas=map(quota_message, statuses))

    def _quotas(self) -> QuotaReader:
        if self.quotas is None:
            raise ServiceError(Reason.USAGE_NOT_RECORDED, NO_QUOTAS)
        return self.quotas


def usage_query(request: service.QueryUsageRequest, identity: Identity, now_us: int) -> UsageQuery:
    """Return the query of a request, limited to what the caller may see.

    The period of a further page is that of the first one, which its token has.

    Raises:
        ServiceError: INVALID_REQUEST with every violation, or CALLER_NOT_PERMITTED.
    """
    violations = Violations(VIOLATIONS_MAX)
    for field, values in _filter_fields(request):
        _check_values(field, values, violations)
    _check_dimensions(request.group_by, violations)
    if not 0 <= request.page_size <= ROWS_MAX:
        violations.add("page_size", f"must be 1 to {ROWS_MAX}, or 0 for {PAGE_SIZE_DEFAULT}")
    start_us, end_us, offset = _period(request, now_us, violations)
    violations.raise_if_any()
    filters = {
        dimension: tuple(values)
        for dimension, values in (
            (Dimension.TENANT, _visible_tenants(request.tenants, identity)),
            (Dimension.MODEL, request.models),
            (Dimension.KEY, request.keys),
            (Dimension.USER, request.users),
            (Dimension.REASON, request.reasons),
        )
        if values
    }
    return UsageQuery(
        start_us=start_us,
        end_us=end_us,
        group_by=tuple(DIMENSIONS[value] for value in request.group_by),
        filters=filters,
        offset=offset,
        limit=request.page_size or PAGE_SIZE_DEFAULT,
    )


def _visible_tenants(named: Sequence[str], identity: Identity) -> tuple[str, ...]:
    """Return the tenants to report; empty for all of them.

    Raises:
        ServiceError: CALLER_NOT_PERMITTED if the caller names a tenant that it must not see.
    """
    if Scope.ADMIN in identity.scopes:
        return tuple(named)
    if any(tenant != identity.tenant for tenant in named):
        raise ServiceError(
            Reason.CALLER_NOT_PERMITTED,
            f"the usage and quotas of tenants other than {identity.tenant} need the scope `{Scope.ADMIN}`",
        )
    return (identity.tenant,)


def _filter_fields(request: service.QueryUsageRequest) -> Iterator[tuple[str, Sequence[str]]]:
    yield "tenants", request.tenants
    yield "models", request.models
    yield "keys", request.keys
    yield "users", request.users
    yield "reasons", request.reasons


def _check_values(field: str, values: Sequence[str], violations: Violations) -> None:
    if len(values) > VALUES_MAX:
        violations.add(field, f"must have at most {VALUES_MAX} values")
    elif any(len(value) > TEXT_CHARACTERS_MAX for value in values):
        violations.add(field, f"must have at most {TEXT_CHARACTERS_MAX} characters")


def _check_dimensions(group_by: Sequence[int], violations: Violations) -> None:
    if len(group_by) != len(set(group_by)):
        violations.add("group_by", "must have each value once")
    elif service.USAGE_DIMENSION_UNSPECIFIED in group_by:
        violations.add("group_by", "must not have USAGE_DIMENSION_UNSPECIFIED")
    elif unknown := [value for value in group_by if value not in DIMENSIONS]:
        violations.add("group_by", f"{unknown[0]:d} is not a known value")


def _period(request: service.QueryUsageRequest, now_us: int, violations: Violations) -> tuple[int, int, int]:
    """Return the start and the end of the period, and how many rows the earlier pages had."""
    if request.page_token:
        found = _position(request)
        if found is None:
            violations.add("page_token", "must be the next_page_token of a response to the same request")
        return found or (0, 0, 0)
    start_us: int | None = _month_start_us(now_us)
    end_us: int | None = now_us
    if request.HasField("start_time"):
        start_us = _time_us("start_time", request.start_time, violations)
    if request.HasField("end_time"):
        end_us = _time_us("end_time", request.end_time, violations)
    if start_us is None or end_us is None:
        return 0, 0, 0
    if start_us >= end_us:
        violations.add("start_time", "must be before end_time, whose default is now")
    elif end_us - start_us > PERIOD_MAX_US:
        violations.add("start_time", "must be at most 10 years before end_time")
    return start_us, end_us, 0


def _position(request: service.QueryUsageRequest) -> tuple[int, int, int] | None:
    if len(request.page_token) > TOKEN_CHARACTERS_MAX:
        return None
    match position_of(request.page_token, request):
        case [int(start_us), int(end_us), int(offset)] if (
            0 <= start_us < end_us <= start_us + PERIOD_MAX_US and 0 < offset <= OFFSET_MAX
        ):
            return start_us, end_us, offset
        case _:
            return None


def _time_us(field: str, moment: Timestamp, violations: Violations) -> int | None:
    """Return a moment in microseconds, rounded up: a row at or after it is at or after the result."""
    if not (0 <= moment.seconds <= _TIME_SECONDS_MAX and 0 <= moment.nanos <= _NANOS_MAX):
        violations.add(field, "must be a moment from 1970 to 9999, UTC, with nanos of 0 to 999,999,999")
        return None
    return moment.seconds * SECOND_US + -(-moment.nanos // 1000)


def _month_start_us(now_us: int) -> int:
    now = datetime.fromtimestamp(now_us / SECOND_US, UTC)
    return int(datetime(now.year, now.month, 1, tzinfo=UTC).timestamp()) * SECOND_US
