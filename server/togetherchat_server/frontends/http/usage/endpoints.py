"""`GET /usage.json`, `/usage.csv` and `/quotas.json`: what UsageService reports, for programs and pages."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from togetherchat.v1 import usage_service_pb2 as service
from togetherchat_server.calls.response_metadata import ResponseMetadata
from togetherchat_server.calls.usage_reports import PAGE_SIZE_DEFAULT
from togetherchat_server.domain.identity import Scope
from togetherchat_server.domain.reasons import ServiceError
from togetherchat_server.frontends.http.exchange import JSON
from togetherchat_server.frontends.http.handler import HttpCall, Operation
from togetherchat_server.frontends.http.usage.document import (
    DimensionValue,
    quotas_json,
    usage_csv,
    usage_json,
)
from togetherchat_server.frontends.http.usage.parameters import in_parameters, quotas_request, usage_request
from togetherchat_server.usage.report import ROWS_MAX

USAGE_METHOD: Final = Operation(name="usage.query", scope=Scope.USAGE)
QUOTAS_METHOD: Final = Operation(name="quotas.list", scope=Scope.USAGE)
CSV: Final = "text/csv; charset=utf-8; header=present"
NEXT_PAGE: Final = "x-next-page"
"""The header with the token of the next page: CSV has no place for it."""
NOT_STORED: Final[ResponseMetadata] = (("cache-control", "no-store"), ("x-content-type-options", "nosniff"))
DOWNLOADED: Final[ResponseMetadata] = (("content-disposition", 'attachment; filename="usage.csv"'),)

Response = TypeVar("Response")
Render = Callable[[service.QueryUsageResponse, Sequence[DimensionValue]], bytes]


async def send_usage_json(http_call: HttpCall) -> None:
    """Send a page of a report as JSON."""
    await _send_usage(http_call, limit=PAGE_SIZE_DEFAULT, render=usage_json, content_type=JSON, headers=())


async def send_usage_csv(http_call: HttpCall) -> None:
    """Send a page of a report as a CSV file, by default as many rows as a page can have."""
    await _send_usage(http_call, limit=ROWS_MAX, render=usage_csv, content_type=CSV, headers=DOWNLOADED)


async def send_quotas(http_call: HttpCall) -> None:
    """Send the quotas that the caller may see."""
    session = http_call.session
    async with session.deadline():
        request = quotas_request(_query(http_call))
        response = await _with_parameters(session.list_quotas(request))
        await http_call.respond(quotas_json(response), NOT_STORED)


async def _send_usage(
    http_call: HttpCall, *, limit: int, render: Render, content_type: str, headers: ResponseMetadata
) -> None:
    session = http_call.session
    async with session.deadline():
        request = usage_request(_query(http_call), session.call.received_us, limit=limit)
        response = await _with_parameters(session.query_usage(request))
        token = response.next_page_token
        next_page: ResponseMetadata = ((NEXT_PAGE, token),) if token else ()
        await http_call.respond(
            render(response, request.group_by), (*headers, *next_page, *NOT_STORED), content_type
        )


async def _with_parameters(response: Awaitable[Response]) -> Response:
    """Await a response; an error names the parameters."""
    try:
        return await response
    except ServiceError as error:
        raise in_parameters(error) from error


def _query(http_call: HttpCall) -> bytes:
    query: bytes = http_call.exchange.scope["query_string"]
    return query
