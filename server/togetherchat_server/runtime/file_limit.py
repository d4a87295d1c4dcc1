"""The number of files that the process may open, and how many connections of each kind fit in it.

Connections up to the limit would leave no file for a probe, a log or a request to the provider: with a
limit of 1,024, 1,200 idle connections stopped every listener.
"""

import resource
from contextlib import suppress
from typing import Final

RESERVED_FILES: Final = 128
"""For the admin listener, the probe listener, logs, files that are read again, and name lookups."""
SHARES: Final = 3
"""The gRPC listener, the HTTP listener, and the connections to the provider."""


def raise_file_limit() -> None:
    """Raise the soft limit to the hard limit, which the operator sets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):  # on macOS the hard limit may exceed what the kernel accepts
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connections_max(wanted: int) -> int:
    """Return how many connections one listener may have: `wanted`, or its share of the files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, (soft - RESERVED_FILES) // SHARES))
