"""Stateless page tokens: a position and a hash of the query, which any worker can read.

The checksum detects accidents and protects nothing: a forged token only chooses where the caller's own
page begins.
"""

import base64
import hashlib
from collections.abc import Sequence
from typing import Final, cast

import orjson
from google.protobuf.message import Message

TOKEN_CHARACTERS_MAX: Final = 4096

_VERSION: Final = 1
_CHECKSUM_BYTES: Final = 8
_QUERY_HASH_DIGITS: Final = 16


def page_token(position: Sequence[int | float | str], request: Message) -> str:
    """Return the token of the page after `position`. The request has fields `page_size` and `page_token`."""
    text = orjson.dumps([_VERSION, _query_hash(request), *position])
    return _encoded(_checksum(text) + text)


def position_of(token: str, request: Message) -> Sequence[object] | None:
    """Return the position in a token; None if the token does not belong to this query."""
    try:
        data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        parsed: object = orjson.loads(data[_CHECKSUM_BYTES:])
    except ValueError:  # binascii.Error and JSONDecodeError are ValueErrors
        return None
    # Decoding ignores foreign characters and the last bits of the last character: compare the text.
    if data[:_CHECKSUM_BYTES] != _checksum(data[_CHECKSUM_BYTES:]) or token != _encoded(data):
        return None
    values = cast("list[object]", parsed) if isinstance(parsed, list) else []
    return values[2:] if values[:2] == [_VERSION, _query_hash(request)] else None


def _query_hash(request: Message) -> str:
    """Return a hash of what must not change between pages. The page size may change."""
    query = type(request)()
    query.CopyFrom(request)
    query.DiscardUnknownFields()
    query.ClearField("page_size")
    query.ClearField("page_token")
    return hashlib.sha256(query.SerializeToString(deterministic=True)).hexdigest()[:_QUERY_HASH_DIGITS]


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()[:_CHECKSUM_BYTES]
