"""The file of keys: one line of JSON a key, under a first line with the file's pepper.

Holds no key. What it holds of one is HMAC-SHA-256 of its text, under a pepper of the file's own:
a secret of 256 random bits cannot be guessed, so the slow hash that a password needs would buy
nothing and cost every call. The pepper makes the hashes of two files differ for the same key.

The file is replaced as a whole, never written into: who reads it sees the old one or the new one.
Two who write at once take turns by a lock on the folder, which leaves nothing behind.
"""

import fcntl
import hmac
import json
import os
import re
import secrets
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Self, cast

VERSION: Final = 1
PEPPER_BYTES: Final = 32
LABEL_CHARACTERS_MAX: Final = 128

_MARK: Final = "togetherchat_keys"
_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ID: Final = re.compile(r"[0-9a-f]{12}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLine:
    """One key as the file knows it. Times are ISO 8601 with an offset, empty where there is none."""

    id: str
    tenant: str
    label: str = ""
    created: str
    expires: str = ""
    revoked: str = ""
    digest: str

    def __post_init__(self) -> None:
        """Raises ValueError for what no line may hold."""
        if not _ID.fullmatch(self.id) or not _DIGEST.fullmatch(self.digest):
            raise ValueError("the id or the digest is not one")
        if not is_tenant_name(self.tenant):
            raise ValueError(f"key {self.id}: {TENANT_RULE}")
        if len(self.label) > LABEL_CHARACTERS_MAX or not self.label.isprintable():
            raise ValueError(f"key {self.id}: a label is a line of {LABEL_CHARACTERS_MAX} characters at most")
        for text in filter(None, (self.created, self.expires, self.revoked)):
            seconds_of(text)


TENANT_RULE: Final = "a tenant's name is 1 to 64 letters, digits, dots, dashes or underscores"


def is_tenant_name(text: str) -> bool:
    return _TENANT.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTable:
    """What a file says: the pepper, and the keys by their id."""

    pepper: bytes = field(repr=False)
    keys: Mapping[str, KeyLine]

    @classmethod
    def new(cls) -> Self:
        return cls(pepper=secrets.token_bytes(PEPPER_BYTES), keys={})

    def digest(self, text: str) -> bytes:
        """What stands in the file for a key."""
        return hmac.digest(self.pepper, text.encode(), "sha256")

    def with_key(self, line: KeyLine) -> Self:
        return type(self)(pepper=self.pepper, keys={**self.keys, line.id: line})


def read_keys(path: Path) -> KeyTable:
    """The file's keys.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no file of keys; the message names the line.
    """
    first, *rest = path.read_text(encoding="utf-8").splitlines() or [""]
    head = _object(first, 1)
    if head.get(_MARK) != VERSION:
        raise ValueError(f"the first line does not say {_MARK!r}: {VERSION}")
    try:
        pepper = bytes.fromhex(str(head.get("pepper")))
    except ValueError:
        pepper = b""
    if len(pepper) < PEPPER_BYTES:
        raise ValueError("the first line has no pepper")
    keys: dict[str, KeyLine] = {}
    for number, text in enumerate(rest, start=2):
        if text.strip():
            line = _line(text, number)
            if line.id in keys:
                raise ValueError(f"line {number}: key {line.id} is there twice")
            keys[line.id] = line
    return KeyTable(pepper=pepper, keys=keys)


def write_keys(path: Path, table: KeyTable) -> None:
    """Replace the file at once. Only its owner may read it. Raises OSError."""
    path = path.resolve()
    head = {_MARK: VERSION, "pepper": table.pepper.hex()}
    lines = [json.dumps(head), *(json.dumps(asdict(line)) for line in table.keys.values())]
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  opened with a mode above
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(descriptor)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


@contextmanager
def one_writer(path: Path) -> Generator[None]:
    """Wait until nobody else writes into the file's folder, and keep others out. Raises OSError."""
    folder = os.open(path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def seconds_of(text: str) -> float:
    """A time of the file in seconds since 1970. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no offset from UTC")
    return moment.timestamp()


def _line(text: str, number: int) -> KeyLine:
    said = _object(text, number)
    if any(not isinstance(value, str) for value in said.values()):
        raise ValueError(f"line {number}: every member must be a text")
    try:
        return KeyLine(**cast("dict[str, str]", said))
    except TypeError:
        raise ValueError(f"line {number}: members are missing or unknown") from None
    except ValueError as exc:
        raise ValueError(f"line {number}: {exc}") from None


def _object(text: str, number: int) -> dict[str, object]:
    try:
        said: object = json.loads(text)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise ValueError(f"line {number} is no JSON object")  # noqa: TRY004  the file is wrong, not a type
    return cast("dict[str, object]", said)
