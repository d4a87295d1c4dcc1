"""The API keys file: one JSON object per line, one line per key, below a header with the file's pepper.

The file contains no key. A line has the HMAC-SHA-256 of a key under the pepper, which is unique to
the file. A key has 256 random bits and cannot be guessed, so the slow hash that a password needs
would add nothing and would cost time in every call. Because of the pepper, the same key has different
hashes in two files.

Writing replaces the whole file, so a reader sees either the old or the new one. A lock on the folder,
which leaves no file behind, serialises writers.
"""

import fcntl
import hmac
import ipaddress
import json
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, Self, cast

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from togetherchat_server.config.file_table import FileTable, first_problem, reject_unknown, rule
from togetherchat_server.domain.identity import SCOPES

VERSION: Final = 1
PEPPER_BYTES: Final = 32
LABEL_CHARACTERS_MAX: Final = 128
MODELS_MAX: Final = 100
MODEL_CHARACTERS_MAX: Final = 256
NETWORKS_MAX: Final = 100
TENANT_RULE: Final = (
    "must be 1 to 64 letters, digits, dots, dashes or underscores, the first a letter or digit"
)

_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_tenant_name(text: str) -> bool:
    return _TENANT.fullmatch(text) is not None


def check_tenant_name(text: str) -> str:
    """Return the name. Raises ValueError."""
    if not is_tenant_name(text):
        raise ValueError(TENANT_RULE)
    return text


def seconds_of(text: str) -> float:
    """Return a time of the file in seconds since 1970. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("has no offset from UTC")
    return moment.timestamp()


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("is not printable")
    return text


def _valid_time(text: str) -> str:
    if text:
        seconds_of(text)
    return text


def _network(text: str) -> str:
    network = ipaddress.ip_network(text, strict=False)
    # A caller's address has no zone, and an IPv4 address is one of IPv4: neither would match.
    if isinstance(network, ipaddress.IPv6Network) and (
        "%" in text or network.network_address.ipv4_mapped is not None
    ):
        raise ValueError("matches no caller")
    return text


_KeyId = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$"), rule("must be 12 hexadecimal digits")]
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$"), rule("must be 64 hexadecimal digits")]
_Tenant = Annotated[str, AfterValidator(check_tenant_name), rule(TENANT_RULE)]
_Label = Annotated[
    str,
    Field(max_length=LABEL_CHARACTERS_MAX),
    AfterValidator(_printable),
    rule(f"must be at most {LABEL_CHARACTERS_MAX} printable characters"),
]
_Time = Annotated[str, AfterValidator(_valid_time), rule("must be an ISO 8601 time with an offset from UTC")]
_Scopes = Annotated[
    tuple[Literal["chat", "models", "usage", "admin"], ...],
    rule(f"must be a list of the scopes {', '.join(SCOPES)}"),
]
_Models = Annotated[
    tuple[
        Annotated[str, Field(min_length=1, max_length=MODEL_CHARACTERS_MAX), AfterValidator(_printable)], ...
    ],
    Field(max_length=MODELS_MAX),
    rule(
        f"must be a list of at most {MODELS_MAX} model names, "
        f"of at most {MODEL_CHARACTERS_MAX} printable characters"
    ),
]
_Networks = Annotated[
    tuple[Annotated[str, AfterValidator(_network)], ...],
    Field(max_length=NETWORKS_MAX),
    rule(f"must be a list of at most {NETWORKS_MAX} addresses or networks, such as 10.0.0.0/8"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLine:
    """One key, as the file has it. Times are ISO 8601 with an offset; empty if not set."""

    # Not strict: pydantic would then accept no dict for a dataclass, and no list for a tuple.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    id: _KeyId
    tenant: _Tenant
    label: _Label = ""
    created: _Time
    expires: _Time = ""
    revoked: _Time = ""
    scopes: _Scopes = ()
    """Empty: the scopes of `identity.KEY_SCOPES`."""
    models: _Models = ()
    """Ids, aliases and patterns with `*`, beside the limits of the tenant. Empty: no limit."""
    networks: _Networks = ()
    """Networks from which the key may be used. Empty: any."""
    digest: _Digest


class _Header(FileTable):
    togetherchat_keys: Annotated[Literal[1], rule(f"must be {VERSION}")]
    pepper: Annotated[
        str,
        Field(pattern=rf"^([0-9a-f]{{2}}){{{PEPPER_BYTES},}}$"),
        rule(f"must be at least {PEPPER_BYTES} bytes in hexadecimal"),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTable:
    """The contents of the file: the pepper, and the keys by id."""

    pepper: bytes = field(repr=False)
    keys: Mapping[str, KeyLine]

    @classmethod
    def new(cls) -> Self:
        return cls(pepper=secrets.token_bytes(PEPPER_BYTES), keys={})

    def digest(self, key: str) -> bytes:
        """Return the hash of a key that the file stores."""
        return hmac.digest(self.pepper, key.encode(), "sha256")

    def with_keys(self, lines: Iterable[KeyLine]) -> Self:
        """Return the table with keys added, or replaced if their ids are in it."""
        return type(self)(pepper=self.pepper, keys={**self.keys, **{line.id: line for line in lines}})


def check_line(line: KeyLine) -> None:
    """Check a new line by the rules of the file. Raises ValueError, which names the member and the rule."""
    try:
        _LINE.validate_python(asdict(line))
    except ValidationError as exc:
        raise ValueError(first_problem(exc)) from None


def read_keys(path: Path) -> KeyTable:
    """Read the file.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is invalid; the message names the line, the member and the rule.
    """
    first, *rest = path.read_text(encoding="utf-8").splitlines() or [""]
    header = _parse_header(first)
    keys: dict[str, KeyLine] = {}
    for number, text in enumerate(rest, start=2):
        if text.strip():
            line = _parse_line(text, number)
            if line.id in keys:
                raise ValueError(f"line {number}: key {line.id} is in the file twice")
            keys[line.id] = line
    return KeyTable(pepper=bytes.fromhex(header.pepper), keys=keys)


def write_keys(path: Path, table: KeyTable) -> None:
    """Replace the file atomically.

    A new file can only be read by its owner. A replaced one keeps its owner, group and mode: the service
    may run as another user than the operator, and must still be able to read it.

    Raises:
        OSError: the file cannot be written, or not be given to its owner.
    """
    path = path.resolve()
    header = _Header(togetherchat_keys=VERSION, pepper=table.pepper.hex())
    lines = [json.dumps(header.model_dump()), *(json.dumps(_members(line)) for line in table.keys.values())]
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    new_path = Path(name)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  opened by tempfile
            _keep_owner(path, descriptor)
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(descriptor)
        new_path.replace(path)
    except BaseException:
        new_path.unlink(missing_ok=True)
        raise


def _members(line: KeyLine) -> dict[str, object]:
    """Return the members of a line, without lists that are empty."""
    return {name: value for name, value in asdict(line).items() if value != ()}


def _keep_owner(path: Path, descriptor: int) -> None:
    """Give the open file the owner, group and mode of the file at `path`, if there is one."""
    try:
        old = path.stat()
    except FileNotFoundError:
        return
    new = os.fstat(descriptor)
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


@contextmanager
def one_writer(path: Path) -> Generator[None]:
    """Wait for other writers of the file's folder, and lock it for this one. Raises OSError."""
    folder = os.open(path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


_LINE: Final = TypeAdapter(KeyLine)
_MEMBERS: Final = tuple(member.name for member in fields(KeyLine))


def _parse_header(text: str) -> _Header:
    members = _json_object(text, 1)
    try:
        return _Header.model_validate(members)
    except ValidationError as exc:
        raise ValueError(f"line 1: {first_problem(exc)}") from None


def _parse_line(text: str, number: int) -> KeyLine:
    members = _json_object(text, number)
    try:
        reject_unknown(members, known=_MEMBERS)
        return _LINE.validate_python(members)
    except ValidationError as exc:
        raise ValueError(f"line {number}: {first_problem(exc)}") from None
    except ValueError as exc:
        raise ValueError(f"line {number}: {exc}") from None


def _json_object(text: str, number: int) -> dict[str, object]:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"line {number}: is not a JSON object")  # noqa: TRY004  the file is invalid
    return cast("dict[str, object]", value)
