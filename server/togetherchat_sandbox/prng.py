"""Deterministic pseudo-random bits: the sandbox's only source of randomness."""

import hashlib


def random_bits(*parts: object) -> int:
    """Return 64 bits that depend on `parts` alone, not on the process or the time."""
    hashed = hashlib.blake2b(repr(parts).encode(errors="replace"), digest_size=8)
    return int.from_bytes(hashed.digest(), "big")
