"""Validates the arguments of a client and of a call: keys, timeouts, request ids and metadata.

A bad value raises ValueError before anything is sent. gRPC would report it later, in other words, and
with the key in its text. The messages are those of `clients/conformance/arguments.json`.
"""

import re
from collections.abc import Sequence
from typing import Final, TypeAlias

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]
"""Pairs to send. The value is bytes if the name ends in `-bin`, and text otherwise."""

TIMEOUT_S_MAX: Final = 86_400.0
"""One day: in milliseconds it fits into every client's timer and into `grpc-timeout`."""

_PRINTABLE: Final = re.compile(r"[ -~]*")
_KEY: Final = re.compile(r"[!-~]+")
_REQUEST_ID: Final = re.compile(r"[ -~]{1,128}")
_NAME: Final = re.compile(r"[a-z0-9_.-]+")


def validated_key(key: str | None, name: str) -> str | None:
    """`key` without surrounding white space. The message never contains the key."""
    if key is None:
        return None
    stripped = key.strip()
    if not stripped:
        raise ValueError(f"{name}: must not be empty; leave it out to send no key")
    if not _KEY.fullmatch(stripped):
        raise ValueError(f"{name}: must be printable ASCII without spaces (the key is not shown)")
    return stripped


def validated_timeout_s(timeout_s: float, name: str = "timeout_s") -> float:
    """`timeout_s`, if it is above 0 and at most one day. gRPC's timers overflow for larger values."""
    # A comparison with NaN is false.
    if not 0 < timeout_s <= TIMEOUT_S_MAX:
        raise ValueError(f"{name}: must be above 0 and at most one day; leave it out for the default")
    return timeout_s


def validated_request_id(request_id: str) -> str:
    if not _REQUEST_ID.fullmatch(request_id):
        raise ValueError(
            "request_id: must be 1 to 128 printable ASCII characters; leave it out for a random id"
        )
    return request_id


def validated_metadata(metadata: Metadata) -> list[tuple[str, str | bytes]]:
    """`metadata` with names in lower case, as HTTP/2 requires them."""
    return [_validated_pair(name.lower(), value) for name, value in metadata]


def _validated_pair(name: str, value: str | bytes) -> tuple[str, str | bytes]:
    if not name:
        raise ValueError("metadata: a name must not be empty")
    if not name.isascii():
        raise ValueError('metadata: a name must be ASCII; use letters, digits, "-", "_" and "."')
    if not _NAME.fullmatch(name):
        raise ValueError(f'metadata: the name "{name}" must have only letters, digits, "-", "_" and "."')
    if name.startswith("grpc-"):
        raise ValueError(
            f'metadata: the name "{name}" is reserved; names that start with "grpc-" belong to gRPC'
        )
    _validate_value(name, value)
    return name, value


def _validate_value(name: str, value: str | bytes) -> None:
    subject = f'metadata: the value of "{name}"'
    if name.endswith("-bin"):
        if not isinstance(value, bytes):
            raise ValueError(f'{subject} must be bytes, because the name ends in "-bin"')
    elif not isinstance(value, str):
        raise ValueError(f'{subject} must be text; only names that end in "-bin" have bytes')
    elif not _PRINTABLE.fullmatch(value):
        raise ValueError(
            f"{subject} must be printable ASCII; encode other text, for example with percent signs"
        )
