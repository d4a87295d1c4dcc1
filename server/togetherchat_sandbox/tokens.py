"""Text in pieces of about four characters, as a tokeniser would cut it, and chance that is none.

Owns the cutting, the made-up identifiers and probabilities of tokens, and `roll`, from which all
that looks random is taken. Nothing here depends on the process or the time.
"""

import hashlib
import re
from zlib import crc32

VOCABULARY_SIZE = 128_000
END_OF_TURN_ID = 128_009

_TOKEN = re.compile(r" ?\w{1,6}| ?[^\w\s]{1,3}|\s{1,4}")


def split(text: str) -> tuple[str, ...]:
    """Cut `text` into tokens; joined again they are `text`."""
    return tuple(_TOKEN.findall(text))


def count(text: str) -> int:
    """The number of tokens in `text`."""
    return sum(1 for _ in _TOKEN.finditer(text))


def token_id(token: str) -> int:
    """A vocabulary number: the same token, the same number."""
    return crc32(token.encode()) % VOCABULARY_SIZE


def log_probability(token: str, position: int) -> float:
    """A plausible log probability between -2 and 0."""
    return -(crc32(token.encode(), position) % 2_000) / 1_000


def alternatives(token: str, position: int, limit: int) -> dict[str, float]:
    """The token and made-up rivals, the likeliest first, `limit` in all."""
    likelihood = log_probability(token, position)
    return {f"{token}{'~' * rank}": likelihood - rank for rank in range(limit)}


def roll(*parts: object) -> int:
    """64 bits that depend on `parts` and on nothing else."""
    hashed = hashlib.blake2b(repr(parts).encode(errors="replace"), digest_size=8)
    return int.from_bytes(hashed.digest(), "big")
