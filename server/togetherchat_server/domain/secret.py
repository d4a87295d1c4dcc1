"""API keys: text that must never be printed.

A key comes from an environment variable, a mounted file or a caller's metadata, often with a trailing
newline. HTTP libraries quote an illegal header value in their exception, so a key is validated here
before any other code receives it.
"""

import hashlib
import re
from pathlib import Path
from typing import final

KEY_CHARACTERS_MAX = 4096

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

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that identify the key without revealing it."""
        if not self._fingerprint:
            self._fingerprint = hashlib.sha256(self._text.encode("ascii")).hexdigest()[:16]
        return self._fingerprint

    def __repr__(self) -> str:
        return "Secret('…')"

    def __reduce__(self) -> str:
        raise TypeError("a key cannot be pickled")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


@final
class KeyFile:
    """A key in a file that may be replaced while the service runs, such as a mounted Secret."""

    __slots__ = ("_key", "_path", "_seen")

    def __init__(self, path: Path) -> None:
        """Read the file once.

        Raises:
            ValueError: the file holds no usable key.
            OSError: the file cannot be read.
        """
        self._path = path
        self._seen = self._state()
        self._key = self._read()

    def current(self) -> Secret:
        """Return the current key. If a replacement cannot be read or used, the old key stays in effect."""
        try:
            state = self._state()
            if state != self._seen:
                self._key = self._read()
                self._seen = state
        except (OSError, ValueError):
            return self._key
        return self._key

    def _state(self) -> tuple[int, int, int]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _read(self) -> Secret:
        # A key is one line. A much longer file is something else, mounted by mistake.
        with self._path.open(encoding="ascii", errors="strict") as file:
            return Secret(file.read(KEY_CHARACTERS_MAX + 2))
