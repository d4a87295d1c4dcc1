"""Builds a QueryUsageRequest from the arguments of a call. The service validates the values."""

import datetime as dt
from collections.abc import Sequence
from typing import TypeAlias, TypedDict, Unpack

from google.protobuf.timestamp_pb2 import Timestamp

from togetherchat.v1 import usage_service_pb2 as usage

Dimension: TypeAlias = "str | usage.UsageDimension.ValueType"
"""`tenant`, `model`, `day`, `hour`, `key`, `user` or `reason`, or the value of the contract."""

_PREFIX = "USAGE_DIMENSION_"


class UsageFields(TypedDict, total=False):
    """All fields of QueryUsageRequest."""

    start_time: dt.datetime | Timestamp
    end_time: dt.datetime | Timestamp
    group_by: Sequence[Dimension]
    tenants: Sequence[str]
    models: Sequence[str]
    keys: Sequence[str]
    users: Sequence[str]
    reasons: Sequence[str]
    page_size: int
    page_token: str


def usage_request(**fields: Unpack[UsageFields]) -> usage.QueryUsageRequest:
    """Build the request.

    Raises:
        ValueError: a time has no time zone, or a word of `group_by` is not known.
    """
    built: dict[str, object] = dict(fields)
    if "start_time" in fields:
        built["start_time"] = to_timestamp("start_time", fields["start_time"])
    if "end_time" in fields:
        built["end_time"] = to_timestamp("end_time", fields["end_time"])
    if "group_by" in fields:
        built["group_by"] = [_dimension(value) for value in fields["group_by"]]
    return usage.QueryUsageRequest(
        **built,  # pyright: ignore[reportArgumentType]  fields of UsageFields, translated above
    )


def to_timestamp(name: str, moment: dt.datetime | Timestamp) -> Timestamp:
    """Return a moment as the contract has it. `name` is that of the argument, for an error."""
    if isinstance(moment, Timestamp):
        return moment
    if moment.tzinfo is None:
        raise ValueError(f"{name}: needs a time zone, such as datetime.now(UTC) has")
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


def _dimension(value: Dimension) -> "usage.UsageDimension.ValueType":
    if not isinstance(value, str):
        return value
    names = [name.removeprefix(_PREFIX).lower() for name in usage.UsageDimension.keys()[1:]]
    if value not in names:
        raise ValueError(f"group_by: {value!r} is not one of {', '.join(names)}")
    return usage.UsageDimension.Value(f"{_PREFIX}{value.upper()}")
