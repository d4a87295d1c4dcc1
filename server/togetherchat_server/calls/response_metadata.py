"""What the responses of every frontend have in common: request id, metadata and retry delay."""

import re
import secrets
from typing import Final

from togetherchat_server.domain.call import Call

METADATA_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,254}[\x21-\x7e])?")
"""The values that both an HTTP header and a gRPC trailer can carry."""
BACK_OFF_FIRST_S: Final = 0.25
BACK_OFF_MAX_S: Final = 8.0
DELAY_MAX_S: Final = 10 * 366 * 86_400.0
"""A provider may send any number of seconds; a protobuf Duration ends at ten thousand years."""

ResponseMetadata = tuple[tuple[str, str], ...]

_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")


def request_id_or_new(offered: str) -> str:
    return offered if _REQUEST_ID.fullmatch(offered) else secrets.token_hex(16)


def response_metadata(call: Call) -> ResponseMetadata:
    """Return what every response of a call carries, failed ones too. Names are in lower case."""
    progress = call.progress
    pairs = (
        ("x-request-id", call.id),
        ("x-upstream", progress.upstream),
        ("x-upstream-request-id", progress.upstream_request_id),
        ("x-budget-remaining-usd", progress.budget_remaining_usd),
        *progress.rate_limits,
        *progress.debug_headers,
    )
    return tuple((name, value) for name, value in pairs if METADATA_VALUE.fullmatch(value))


def retry_delay_s(requested_s: float | None, previous_attempts: int, fraction: float) -> float:
    """Return after how many seconds a rejected caller may retry.

    Clients obey the delay to the millisecond, so a thousand of them would retry at the same instant.
    The delay is therefore spread by `fraction`, a random number from 0 to 1. `requested_s` is the delay
    that the provider or one of our limits requires; None if there is none.
    """
    if requested_s is not None:
        return min(requested_s * (1 + 0.2 * fraction), DELAY_MAX_S)
    return min(BACK_OFF_MAX_S, BACK_OFF_FIRST_S * 2 ** min(previous_attempts, 10)) * (0.5 + 0.5 * fraction)
