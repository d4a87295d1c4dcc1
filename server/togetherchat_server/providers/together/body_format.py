"""Decides whether the body of a response is JSON, a stream of events, or neither.

The media type decides. Engines and proxies that send none, or `text/plain`, are common: then the first
character of the body decides, since JSON begins with a brace and no line of an event stream does.
"""

from collections.abc import Mapping
from typing import Final

JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream"
UNNAMED: Final = frozenset({"", "text/plain"})
_BEFORE_JSON: Final = b"\xef\xbb\xbf \t\r\n"
_JSON_STARTS: Final = (b"{", b"[")


def media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def is_unnamed(headers: Mapping[str, str]) -> bool:
    """Return whether the body itself must be looked at."""
    return media_type(headers) in UNNAMED


def is_json(headers: Mapping[str, str], start: bytes) -> bool:
    """Return whether a body that starts with these bytes is read as JSON."""
    return media_type(headers) == JSON or (is_unnamed(headers) and _starts_as_json(start))


def is_event_stream(headers: Mapping[str, str], start: bytes) -> bool:
    """Return whether a body that starts with these bytes is read as events."""
    return media_type(headers) == EVENT_STREAM or (is_unnamed(headers) and not _starts_as_json(start))


def _starts_as_json(start: bytes) -> bool:
    return start.lstrip(_BEFORE_JSON).startswith(_JSON_STARTS)
