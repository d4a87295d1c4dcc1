"""The format of a key of this service: `tc_<id>_<secret><checksum>`.

The id is public: it is in the file, in lists and in logs, and it finds the key without a search over
secrets. The secret is 32 random bytes. The prefix serves secret scanners. The checksum distinguishes
a typing error from a key that was never created.
"""

import base64
import re
import zlib
from typing import Final

ID_BYTES: Final = 6
SECRET_BYTES: Final = 32

_KEY: Final = re.compile(r"(?P<body>tc_(?P<id>[0-9a-f]{12})_[A-Za-z0-9_-]{43})(?P<checksum>[0-9a-f]{8})")


def format_key(id_bytes: bytes, secret_bytes: bytes) -> str:
    """Return the key with this id and this secret."""
    secret = base64.urlsafe_b64encode(secret_bytes).rstrip(b"=").decode()
    body = f"tc_{id_bytes.hex()}_{secret}"
    return body + _checksum(body)


def key_id_of(text: str) -> str | None:
    """Return the id of a key; None if the text is not a key or has a typing error."""
    found = _KEY.fullmatch(text)
    if found is None or _checksum(found["body"]) != found["checksum"]:
        return None
    return found["id"]


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
