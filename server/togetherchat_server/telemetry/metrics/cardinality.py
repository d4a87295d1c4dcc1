"""Bounds the values of labels, so that callers cannot create series.

A model is named if the catalog or an alias names it. Tenants and methods come from the service's
own configuration and code, not from callers; their number is bounded all the same. Every other
value becomes `other`.
"""

from collections.abc import Container
from typing import Final, final

OTHER: Final = "other"
NONE: Final = "none"
TENANTS_MAX: Final = 200
METHODS_MAX: Final = 50


@final
class LabelLimiter:
    """Passes listed values, and the first `unlisted_max` of the others."""

    def __init__(self, listed: Container[str] = (), *, unlisted_max: int = 0) -> None:
        self._listed = listed
        self._unlisted_max = unlisted_max
        self._unlisted: set[str] = set()

    def __call__(self, value: str) -> str:
        """Return the label for a value; `none` for an empty one."""
        if not value:
            return NONE
        if value in self._listed or value in self._unlisted:
            return value
        if len(self._unlisted) >= self._unlisted_max:
            return OTHER
        self._unlisted.add(value)
        return value
