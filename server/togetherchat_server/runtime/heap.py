"""Makes the C library return the memory of large blocks.

By default glibc keeps freed blocks of up to 32 MiB once it has seen some of that size. A flood of large
messages then leaves hundreds of megabytes that nothing uses. With a fixed threshold large blocks are
mapped, and unmapped when they are freed. Setting the threshold also fixes the size at which free memory at
the end of the heap is returned: at its default, 128 KiB, each token would return some and get it again.
"""

import ctypes
from typing import Final

MAPPED_BYTES_MIN: Final = 2**20
KEPT_BYTES_MAX: Final = 16 * 2**20

# The parameters of `mallopt`, from glibc's malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3


def limit_heap() -> None:
    """Set the parameters, where the C library has them."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return
    mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES_MIN)
    mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES_MAX)
