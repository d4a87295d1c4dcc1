"""Patterns in which only `*` is special: it stands for any text."""

import functools
import re
from typing import Final

COMPILED_MAX: Final = 4096


def matches(pattern: str, text: str) -> bool:
    """Return whether the whole text matches."""
    return bool(_compiled(pattern).fullmatch(text)) if "*" in pattern else pattern == text


@functools.lru_cache(COMPILED_MAX)
def _compiled(pattern: str) -> re.Pattern[str]:
    # Adjacent stars are one: each more would multiply the ways in which a long text fails to match.
    parts = re.split(r"\*+", pattern)
    return re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
