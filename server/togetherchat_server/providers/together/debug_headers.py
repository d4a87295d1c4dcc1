"""The headers with which Together explains how it served a request, sent for `x-together-debug: 1`.

Source: Together's guides (github.com/togethercomputer/skills, 2026). The values are not interpreted: they are
passed on unchanged to the caller that requested them, and to nobody else.
"""

import re
from collections.abc import Mapping
from typing import Final

REQUEST: Final = ((b"x-together-debug", b"1"),)
"""The header of a request that asks for the others."""
NAMES: Final = (
    "x-together-traceid",
    "x-cluster",
    "x-engine-pod",
    "x-api-received",
    "x-api-call-start",
    "x-api-call-end",
    "x-inference-version",
)

_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,126}[\x21-\x7e])?")


def from_headers(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the debug headers among `headers`, whose names are in lower case."""
    return tuple((name, headers[name]) for name in NAMES if _VALUE.fullmatch(headers.get(name, "")))
