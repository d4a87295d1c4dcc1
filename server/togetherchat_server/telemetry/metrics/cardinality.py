"""Which values a label may have: a caller must not be able to make series at will.

A model is named where it was known beforehand: in the catalogue, or as what an alias stands
for. Tenants and methods are named by the service's own configuration and code, not by
callers; they are bounded by number all the same. Everything else is `other`.
"""

from collections.abc import Container
from typing import Final, final

OTHER: Final = "other"
NONE: Final = "none"
TENANTS_MAX: Final = 200
METHODS_MAX: Final = 50


@final
class LabelLimiter:
    """Lets values through that are known, and of the others the first `unlisted_max`."""

    def __init__(self, listed: Container[str] = (), *, unlisted_max: int = 0) -> None:
        self._listed = listed
        self._unlisted_max = unlisted_max
        self._unlisted: set[str] = set()

    def __call__(self, value: str) -> str:
        """The value as a label; `none` for an empty one."""
        if not value:
            return NONE
        if value in self._listed or value in self._unlisted:
            return value
        if len(self._unlisted) >= self._unlisted_max:
            return OTHER
        self._unlisted.add(value)
        return value
