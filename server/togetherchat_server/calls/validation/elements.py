"""Bounds the elements of a large request before it is parsed.

A parser creates an object for each element and holds the interpreter's lock meanwhile, so a thread does
not help: 31 MB of `[],` took 26 seconds and gigabytes. A scanner of the frontend's format therefore
counts elements first. It creates nothing, and other calls proceed while it runs.

A request of at most `SCANNED_BYTES` is not scanned: the worst one that was found takes 40 ms.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final

from togetherchat_server.calls.validation.bounds import RequestLimits
from togetherchat_server.domain.reasons import Reason, ServiceError

SCANNED_BYTES: Final = 64 * 2**10
TURN_S: Final = 0.005
"""How long a scanner runs before other work of the event loop has its turn."""


async def check_elements(
    counts: Iterable[int], limits: RequestLimits, *, clock: Callable[[], float] = time.monotonic
) -> None:
    """Add up the elements that a scanner finds in each slice of a request.

    Raises:
        ServiceError: INVALID_REQUEST at the first slice beyond the bound; the rest is not scanned.
    """
    elements, turn_ends_s = 0, clock() + TURN_S
    for count in counts:
        elements += count
        if elements > limits.elements_max:
            raise ServiceError(
                Reason.INVALID_REQUEST,
                f"the request has more than {limits.elements_max} elements (values, objects and lists)",
            )
        if clock() >= turn_ends_s:
            await asyncio.sleep(0)
            turn_ends_s = clock() + TURN_S
