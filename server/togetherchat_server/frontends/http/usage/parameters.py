"""Reads the parameters of `/usage.json`, `/usage.csv` and `/quotas.json` into requests of the contract.

Pure: the moment of the call is an argument. The parameters are named after what they choose, not after
the fields of the contract, so errors of the service are translated back.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Final
from urllib.parse import parse_qsl

from google.protobuf.timestamp_pb2 import Timestamp

from togetherchat.v1 import usage_service_pb2 as service
from togetherchat_server.calls.usage_messages import DIMENSIONS, SECOND_US
from togetherchat_server.domain.reasons import FieldViolation, Reason, ServiceError, sanitise
from togetherchat_server.usage.report import ROWS_MAX, Dimension

PARAMETERS_MAX: Final = 1000
SUCCESS: Final = "OK"
"""What stands for calls that succeeded among reasons. Their reason is empty, as is a parameter not set."""

FIELDS: Final[Mapping[str, str]] = {
    "since": "start_time",
    "until": "end_time",
    "by": "group_by",
    "tenant": "tenants",
    "model": "models",
    "key": "keys",
    "user": "users",
    "reason": "reasons",
    "limit": "page_size",
    "page": "page_token",
}
"""The parameters, and the fields of the request that they set."""
ONCE: Final = frozenset({"since", "until", "limit", "page"})
SPLIT: Final = frozenset({"by", "tenant", "model", "reason"})
"""Lists with commas. Users and the subjects of certificates contain commas: repeat the parameter."""

TIME_RULE: Final = (
    "must be a duration before now such as 15m, 24h, 7d or 4w, a date such as 2026-11-01, "
    "or an RFC 3339 time such as 2026-11-01T12:00:00Z"
)
_UNIT_S: Final = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION: Final = re.compile(r"([0-9]{1,9})([mhdw])")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:.]{8,15}([Zz]|[+ -][0-9]{2}:[0-9]{2})")
_VALUES: Final = {dimension.value: value for value, dimension in DIMENSIONS.items()}
_PARAMETER_OF: Final = {field: parameter for parameter, field in FIELDS.items()} | {
    "next_page_token": "next_page"
}
_FIELD: Final = re.compile(rf"\b({'|'.join(_PARAMETER_OF)})\b")


def usage_request(query: bytes, now_us: int, *, limit: int) -> service.QueryUsageRequest:
    """Return the request of a report. `limit` is the number of rows if the query has none.

    Raises:
        ServiceError: INVALID_REQUEST, with the parameter and its rule.
    """
    given = _parameters(query, FIELDS)
    request = service.QueryUsageRequest(
        start_time=_time("since", given, now_us),
        end_time=_time("until", given, now_us),
        group_by=[_dimension(name) for name in given.get("by", ())],
        tenants=given.get("tenant", ()),
        models=given.get("model", ()),
        keys=given.get("key", ()),
        users=given.get("user", ()),
        reasons=["" if reason == SUCCESS else reason for reason in given.get("reason", ())],
        page_size=_limit(given, limit),
    )
    for token in given.get("page", ()):
        request.page_token = token
    return request


def quotas_request(query: bytes) -> service.ListQuotasRequest:
    """Return the request for quotas. Raises ServiceError as `usage_request`."""
    return service.ListQuotasRequest(tenants=_parameters(query, ("tenant",)).get("tenant", ()))


def in_parameters(error: ServiceError) -> ServiceError:
    """Return the error of an invalid request with the names of the parameters; any other unchanged."""
    if error.reason is not Reason.INVALID_REQUEST:
        return error
    return ServiceError(
        error.reason,
        _renamed(error.message),
        violations=tuple(
            FieldViolation(field=_renamed(violation.field), description=_renamed(violation.description))
            for violation in error.violations
        ),
    )


def _renamed(text: str) -> str:
    return _FIELD.sub(lambda field: _PARAMETER_OF[field[1]], text)


def _parameters(query: bytes, known: Collection[str]) -> dict[str, list[str]]:
    """Return the values of each parameter that is set. An empty value sets none."""
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=PARAMETERS_MAX
        )
    except ValueError:  # UnicodeDecodeError is one
        raise _invalid(
            "query", f"must be UTF-8 in percent-encoding, with at most {PARAMETERS_MAX} values"
        ) from None
    found: dict[str, list[str]] = {}
    for name, text in pairs:
        if name not in known:
            shown = sanitise(name, characters_max=64)
            raise _invalid(shown, f"is not a parameter; there are {', '.join(known)}")
        parts = text.split(",") if name in SPLIT else (text,)
        found.setdefault(name, []).extend(part.strip() for part in parts if part.strip())
    for name, values in found.items():
        if name in ONCE and len(values) > 1:
            raise _invalid(name, "must be given once")
    return found


def _time(name: str, given: Mapping[str, Sequence[str]], now_us: int) -> Timestamp | None:
    for text in given.get(name, ()):
        seconds, nanos = _moment(name, text, now_us)
        return Timestamp(seconds=seconds, nanos=nanos)
    return None


def _moment(name: str, text: str, now_us: int) -> tuple[int, int]:
    """Return seconds since 1970 and nanoseconds."""
    duration = _DURATION.fullmatch(text)
    if duration is not None:
        seconds, rest_us = divmod(now_us - int(duration[1]) * _UNIT_S[duration[2]] * SECOND_US, SECOND_US)
        return seconds, rest_us * 1000
    try:
        if _DATE.fullmatch(text):
            day = date.fromisoformat(text)
            return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()), 0
        if _TIME.fullmatch(text):
            # A plus sign that is not encoded arrives as a space.
            at = datetime.fromisoformat(f"{text[:-6]}{text[-6:].replace(' ', '+')}".upper())
            return int(at.replace(microsecond=0).timestamp()), at.microsecond * 1000
    except ValueError:
        pass
    raise _invalid(name, TIME_RULE)


def _dimension(name: str) -> "service.UsageDimension.ValueType":
    value = _VALUES.get(name)
    if value is None:
        raise _invalid("by", f"must be a list of {', '.join(Dimension)}")
    return value


def _limit(given: Mapping[str, Sequence[str]], default: int) -> int:
    for text in given.get("limit", ()):
        if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= ROWS_MAX):
            raise _invalid("limit", f"must be 1 to {ROWS_MAX}")
        return int(text)
    return default


def _invalid(parameter: str, rule: str) -> ServiceError:
    violation = FieldViolation(field=parameter, description=rule)
    return ServiceError(Reason.INVALID_REQUEST, f"{parameter}: {rule}", violations=(violation,))
