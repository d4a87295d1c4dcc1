"""Reads what Redis answers. Raises for an answer that makes no sense: another program may have its port."""

from collections.abc import Mapping, Sequence
from typing import cast

from togetherchat_server.domain.periods import Period
from togetherchat_server.tenants.budget import Spending
from togetherchat_server.tenants.quota_store import QuotaUsage


def usage_of(answers: object, period: Period, now_s: float) -> QuotaUsage:
    """Return the usage of a tenant from the answers to TIME, GET, GET, ZCARD and HGETALL.

    Raises:
        ValueError: these are not such answers.
    """
    parts = cast("Sequence[object]", answers) if isinstance(answers, list) else ()
    match parts:
        case [(int(seconds), int(microseconds)), _, _, int(calls), dict()]:
            ahead_s = now_s - (seconds + microseconds / 1e6)
        case _:
            raise ValueError("not the answers to the commands")
    fields = cast("Mapping[bytes, bytes]", parts[4])
    sums = {name: int(value) for name, value in fields.items() if name != b"generation"}
    spending = Spending(
        day=sums.get(b"day", period.day),
        month=sums.get(b"month", period.month),
        day_committed=sums.get(b"day_committed", 0),
        month_committed=sums.get(b"month_committed", 0),
        day_reserved=sums.get(b"day_reserved", 0),
        month_reserved=sums.get(b"month_reserved", 0),
    )
    spending.roll(period)
    return QuotaUsage(
        calls=calls,
        requests_until_s=_moment(parts[1], ahead_s),
        tokens_until_s=_moment(parts[2], ahead_s),
        spending=spending,
    )


def _moment(answer: object, ahead_s: float) -> float:
    match answer:
        case None:
            return 0.0
        case bytes(text):
            return float(text) + ahead_s
        case _:
            raise ValueError("not the answers to the commands")
