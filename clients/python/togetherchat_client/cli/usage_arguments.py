"""The options of `togetherchat usage` and `togetherchat quotas`, and the times that they take."""

import argparse
import datetime as dt
import re
from collections.abc import Callable
from typing import Final

from togetherchat.v1 import usage_service_pb2 as usage

DIMENSIONS: Final = tuple(
    name.removeprefix("USAGE_DIMENSION_").lower() for name in usage.UsageDimension.keys()[1:]
)
TIME_RULE: Final = (
    "must be a duration before now such as 15m, 24h, 7d or 4w, a date, or an RFC 3339 time with its zone"
)
SUCCESS: Final = "OK"
"""What stands for calls that succeeded in `--reason`; in the contract their reason is empty."""

_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION: Final = re.compile(r"([0-9]{1,6})([mhdw])")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def add_usage(parser: argparse.ArgumentParser) -> None:
    """Add the options of `usage`."""
    parser.description = (
        "Report usage and cost. In a pipe: one row per line, columns separated by tabs. "
        "A time is a duration before now (15m, 24h, 7d, 4w), a date, or an RFC 3339 time; all are UTC."
    )
    time = _time(lambda: dt.datetime.now(dt.UTC))
    parser.add_argument(
        "--since", type=time, metavar="TIME", help="start of the period; default: the month's first day"
    )
    parser.add_argument(
        "--until", type=time, metavar="TIME", help="end of the period, exclusive; default: now"
    )
    parser.add_argument(
        "--by",
        type=_dimensions,
        default=(),
        metavar="LIST",
        help=f"what to sum by, separated by commas: {', '.join(DIMENSIONS)}",
    )
    for option, dest, text in (
        ("--tenant", "tenants", "only this tenant"),
        ("--model", "models", "only this model"),
        ("--key", "keys", "only this key id, or subject of a JWT or certificate"),
        ("--user", "users", "only this end user"),
        ("--reason", "reasons", f"only calls that failed for this reason; {SUCCESS}: that succeeded"),
    ):
        parser.add_argument(
            option, dest=dest, action="append", default=[], metavar="NAME", help=f"{text}; may be repeated"
        )
    parser.add_argument("--csv", action="store_true", help="print CSV, with a line of headings")


def add_quotas(parser: argparse.ArgumentParser) -> None:
    """Add the options of `quotas`."""
    parser.description = (
        "Report what is used, reserved and left of the limits of tenants. "
        "In a pipe: one limit per line, columns separated by tabs; costs in 1e-9 USD."
    )
    parser.add_argument(
        "--tenant",
        dest="tenants",
        action="append",
        default=[],
        metavar="NAME",
        help="only this tenant; may be repeated",
    )


def parse_time(text: str, now: dt.datetime) -> dt.datetime:
    """Return the moment that a text stands for. Raises ValueError for any other text."""
    duration = _DURATION.fullmatch(text)
    if duration is not None:
        return now - dt.timedelta(**{_UNITS[duration[2]]: int(duration[1])})
    if _DATE.fullmatch(text):
        return dt.datetime.combine(dt.date.fromisoformat(text), dt.time(), dt.UTC)
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment


def _time(now: Callable[[], dt.datetime]) -> Callable[[str], dt.datetime]:
    def time(text: str) -> dt.datetime:
        try:
            return parse_time(text, now())
        except (ValueError, OverflowError):
            raise argparse.ArgumentTypeError(f"{text!r} {TIME_RULE}") from None

    return time


def _dimensions(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if unknown := [name for name in names if name not in DIMENSIONS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(DIMENSIONS)}")
    return names
