"""Bounded memory of what was seen last."""

from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


def remember(table: dict[Key, Value], key: Key, value: Value, *, at_most: int) -> None:
    """Set an entry as the newest, and drop the oldest if there are too many. A dict keeps its order."""
    table.pop(key, None)
    table[key] = value
    if len(table) > at_most:
        del table[next(iter(table))]
