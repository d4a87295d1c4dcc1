"""API keys: text that must never be printed.

A key comes from an environment variable, a mounted file or a caller's metadata, often with a trailing
newline. HTTP libraries quote an illegal header value in their exception, so a key is validated here
before any other code receives it.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Iterator
from typing import final
from urllib.parse import quote

KEY_CHARACTERS_MAX = 4096
FORM_CHARACTERS_MIN = 12
"""Shorter forms of a short key could be a part of any word."""

_LEGAL = re.compile(r"[\x21-\x7e]+")


@final
class Secret:
    """A key whose `repr` and `str` reveal nothing. It cannot be pickled."""

    __slots__ = ("_fingerprint", "_text")

    def __init__(self, text: str) -> None:
        """Strip white space from `text` and validate it.

        Raises:
            ValueError: the key is empty, too long, or has a character that is illegal in an HTTP
                header. The message does not repeat the text.
        """
        stripped = text.strip()
        if not stripped:
            raise ValueError("the key is empty")
        if len(stripped) > KEY_CHARACTERS_MAX:
            raise ValueError(f"the key is longer than {KEY_CHARACTERS_MAX} characters")
        if not _LEGAL.fullmatch(stripped):
            raise ValueError("the key has a space, a control character or a character outside ASCII")
        self._text = stripped
        self._fingerprint = ""

    def reveal(self) -> str:
        """Return the key. Only for the header that carries it."""
        return self._text

    def forms(self) -> tuple[str, ...]:
        """Return the forms in which a foreign text may contain the key: as it is, and encoded."""
        plain = self._text.encode("ascii")
        encoded = {quote(self._text, safe=""), plain.hex(), plain.hex().upper(), self._text[::-1]}
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            encoded |= {encode(plain).decode("ascii"), *_base64_parts(plain, encode)}
        long = {form for form in encoded if len(form) >= FORM_CHARACTERS_MIN}
        return tuple(sorted({self._text, *long}, key=len, reverse=True))

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that identify the key without revealing it."""
        if not self._fingerprint:
            self._fingerprint = hashlib.sha256(self._text.encode("ascii")).hexdigest()[:16]
        return self._fingerprint

    def keyed_hash(self, parts: Iterable[bytes]) -> str:
        """Return 32 hexadecimal digits that depend on the key and the parts: HMAC-SHA-256, cut in half.

        Without the key, neither a part nor the hash of other parts can be found out from it.
        """
        mac = hmac.new(self._text.encode("ascii"), digestmod="sha256")
        for part in parts:
            mac.update(len(part).to_bytes(8, "big"))  # so that no two lists of parts are equal when joined
            mac.update(part)
        return mac.hexdigest()[:32]

    def __repr__(self) -> str:
        return "Secret('…')"

    def __reduce__(self) -> str:
        raise TypeError("a key cannot be pickled")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


def _base64_parts(plain: bytes, encode: Callable[[bytes], bytes]) -> Iterator[str]:
    """Yield what encodes the key alone within a longer text, for each position in a group of three bytes."""
    for before, shared in ((0, 0), (1, 2), (2, 3)):
        text = encode(bytes(before) + plain).decode("ascii")
        yield text[shared : (before + len(plain)) // 3 * 4]
