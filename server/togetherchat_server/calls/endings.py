"""What every front tells its callers: in which words, when to come back, and what it knows of the call.

Pure. Knows no status and no header of any protocol: a front puts these into its own.
"""

import re
from collections.abc import Mapping
from typing import Final

from togetherchat_server.errors import Kind
from togetherchat_server.ports import Call

UNFORESEEN: Final = "something went wrong inside the service"
STOPPED: Final = "the service was stopped before the answer was complete"
NO_PLACE: Final = "no place became free in time"
STALLED: Final = "the caller read nothing for too long"
TIME_IS_UP: Final[Mapping[Kind, str]] = {
    Kind.CALLER_DEADLINE: "the caller's deadline passed before the answer was complete",
    Kind.CALL_TIMEOUT: "the call took longer than the service allows",
}

# What a header and a gRPC trailer may carry alike.
FACT_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,254}[\x21-\x7e])?")
BACK_OFF_FIRST_S: Final = 0.25
BACK_OFF_MAX_S: Final = 8.0
DELAY_MAX_S: Final = 10 * 366 * 86_400.0
"""A provider may ask for any number of seconds; a Duration ends at ten thousand years."""

Facts = tuple[tuple[str, str], ...]


def facts_of(call: Call) -> Facts:
    """What every answer carries, a failed one too, under lower-case names."""
    progress = call.progress
    offered = (
        ("x-request-id", call.id),
        ("x-upstream", progress.upstream),
        ("x-upstream-request-id", progress.upstream_request_id),
        *progress.rate_limits,
    )
    return tuple((name, value) for name, value in offered if FACT_VALUE.fullmatch(value))


def come_back_s(asked_s: float | None, previous_attempts: int, fraction: float) -> float:
    """After how many seconds a refused caller may try again.

    Clients obey it to the millisecond, which would send a thousand of them back in the same
    instant: so it is spread by `fraction`, a random number from 0 to 1. `asked_s` is what the
    provider or a limit of ours asked for, None where nobody did.
    """
    if asked_s is not None:
        return min(asked_s * (1 + 0.2 * fraction), DELAY_MAX_S)
    return min(BACK_OFF_MAX_S, BACK_OFF_FIRST_S * 2 ** min(previous_attempts, 10)) * (0.5 + 0.5 * fraction)
