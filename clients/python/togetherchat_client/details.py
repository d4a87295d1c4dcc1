"""Reads the details of an error from a call's trailers.

Owns the two forms of the details: `grpc-status-details-bin` (a google.rpc.Status), and the plain-text
trailers `x-error-reason` and `x-error-retryable`. The status message is for people and is not read
here. `errors.py` chooses the exception class.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2 as rpc  # pyright: ignore[reportMissingTypeStubs]  types are in its .pyi
from google.rpc import status_pb2  # pyright: ignore[reportMissingTypeStubs]  types are in its .pyi

from togetherchat_client.call_info import REQUEST_ID, Trailers

DOMAIN = "togetherchat"
STATUS_DETAILS = "grpc-status-details-bin"
REASON = "x-error-reason"
RETRYABLE = "x-error-retryable"

_Detail: TypeAlias = (
    rpc.ErrorInfo
    | rpc.RetryInfo
    | rpc.RequestInfo
    | rpc.BadRequest
    | rpc.QuotaFailure
    | rpc.PreconditionFailure
    | rpc.ResourceInfo
    | rpc.Help
)
_KNOWN: tuple[type[_Detail], ...] = (
    rpc.ErrorInfo,
    rpc.RetryInfo,
    rpc.RequestInfo,
    rpc.BadRequest,
    rpc.QuotaFailure,
    rpc.PreconditionFailure,
    rpc.ResourceInfo,
    rpc.Help,
)
_CLASS_BY_NAME = {detail.DESCRIPTOR.full_name: detail for detail in _KNOWN}
_FLAGS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One violation. `field` is a path such as `messages[2].content[0].text`, or a quota's subject."""

    field: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorDetails:
    """Details of an error, in addition to status code and message."""

    reason: str = ""
    request_id: str = ""
    retryable: bool | None = None
    retry_after_s: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    violations: tuple[Violation, ...] = ()
    resource_name: str = ""
    help_urls: tuple[str, ...] = ()


def parse_details(trailers: Trailers) -> ErrorDetails:
    """Parse the details of an error. A missing or malformed part is left out."""
    values = dict(trailers)
    found = _plain_details(values)
    for detail in _parse(values.get(STATUS_DETAILS)):
        found = _add(found, detail)
    return found


def _plain_details(values: Mapping[str, str | bytes]) -> ErrorDetails:
    return ErrorDetails(
        reason=_text(values.get(REASON)),
        request_id=_text(values.get(REQUEST_ID)),
        retryable=_FLAGS.get(_text(values.get(RETRYABLE))),
    )


def _text(value: str | bytes | None) -> str:
    return value if isinstance(value, str) else ""


def _parse(blob: str | bytes | None) -> Iterator[_Detail]:
    if not isinstance(blob, bytes):
        return
    try:
        status = status_pb2.Status.FromString(blob)
    except DecodeError:
        return
    for packed in status.details:
        known = _CLASS_BY_NAME.get(packed.TypeName())
        if known is None:
            continue
        detail = known()
        try:
            packed.Unpack(detail)
        except DecodeError:
            continue
        yield detail


def _add(found: ErrorDetails, detail: _Detail) -> ErrorDetails:
    match detail:
        # A proxy on the way may send an ErrorInfo of its own. Its reason is not one of the service's.
        case rpc.ErrorInfo() if detail.domain != DOMAIN:
            added = found
        case rpc.ErrorInfo():
            added = replace(found, reason=detail.reason, metadata=dict(detail.metadata))
        case rpc.RetryInfo():
            added = replace(found, retry_after_s=detail.retry_delay.ToTimedelta().total_seconds())
        case rpc.RequestInfo():
            added = replace(found, request_id=detail.request_id or found.request_id)
        case rpc.ResourceInfo():
            added = replace(found, resource_name=detail.resource_name)
        case rpc.Help():
            added = replace(found, help_urls=tuple(link.url for link in detail.links))
        case rpc.BadRequest() | rpc.QuotaFailure() | rpc.PreconditionFailure():
            added = replace(found, violations=(*found.violations, *_violations(detail)))
    return added


def _violations(detail: rpc.BadRequest | rpc.QuotaFailure | rpc.PreconditionFailure) -> Iterator[Violation]:
    if isinstance(detail, rpc.BadRequest):
        for item in detail.field_violations:
            yield Violation(field=item.field, description=item.description)
    else:
        for item in detail.violations:
            yield Violation(field=item.subject, description=item.description)
