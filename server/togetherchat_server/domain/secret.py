"""Keys: text that must never be printed.

A key arrives from an environment variable, a mounted file or a caller's metadata, often with
a newline at its end. HTTP libraries put an illegal header value into the text of their
exception, so a key is checked here, once, before anything else sees it.
"""

import hashlib
import re
from pathlib import Path
from typing import final

KEY_CHARACTERS_MAX = 4096

_LEGAL = re.compile(r"[\x21-\x7e]+")


@final
class Secret:
    """A key whose `repr`, `str` and pickled form show nothing of it."""

    __slots__ = ("_fingerprint", "_text")

    def __init__(self, text: str) -> None:
        """Take `text` without the white space around it.

        Raises:
            ValueError: it is empty, too long or has a character that no HTTP header may
                carry. The message does not repeat the text.
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
        """The key itself: for the header that needs it, nowhere else."""
        return self._text

    def fingerprint(self) -> str:
        """16 hexadecimal digits that tell keys apart and give none away."""
        if not self._fingerprint:
            self._fingerprint = hashlib.sha256(self._text.encode("ascii")).hexdigest()[:16]
        return self._fingerprint

    def __repr__(self) -> str:
        return "Secret('…')"

    def __reduce__(self) -> str:
        raise TypeError("a key is not to be pickled")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


@final
class KeyFile:
    """A key in a file that may be replaced while the service runs, as mounted secrets are."""

    __slots__ = ("_key", "_path", "_seen")

    def __init__(self, path: Path) -> None:
        """Read the file once.

        Raises:
            ValueError: it holds no usable key.
            OSError: it cannot be read.
        """
        self._path = path
        self._seen = self._state()
        self._key = self._read()

    def current(self) -> Secret:
        """The key of now. A replacement that cannot be read or used leaves the old key in force."""
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
        # A key is one line; a file that is much longer is something else, mounted by mistake.
        with self._path.open(encoding="ascii", errors="strict") as file:
            return Secret(file.read(KEY_CHARACTERS_MAX + 2))
