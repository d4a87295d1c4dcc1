"""Splits text into tokens of about four characters and invents their ids and probabilities.

Everything here depends on the text alone.
"""

import re
from zlib import crc32

VOCABULARY_SIZE = 128_000
END_OF_TURN_ID = 128_009

_TOKEN = re.compile(r" ?\w{1,6}| ?[^\w\s]{1,3}|\s{1,4}")


def tokenize(text: str) -> tuple[str, ...]:
    """Split `text` into tokens; the joined tokens equal `text`."""
    return tuple(_TOKEN.findall(text))


def count_tokens(text: str) -> int:
    """Return the number of tokens in `text`."""
    return sum(1 for _ in _TOKEN.finditer(text))


def token_id(token: str) -> int:
    """Return a vocabulary number; equal tokens have equal numbers."""
    return crc32(token.encode()) % VOCABULARY_SIZE


def log_probability(token: str, position: int) -> float:
    """Return a plausible log probability between -2 and 0."""
    return -(crc32(token.encode(), position) % 2_000) / 1_000


def top_log_probabilities(token: str, position: int, limit: int) -> dict[str, float]:
    """Return the token and invented alternatives, `limit` in all, the most likely first."""
    most_likely = log_probability(token, position)
    return {f"{token}{'~' * rank}": most_likely - rank for rank in range(limit)}
