"""Rules for single texts: ids, words, URLs and media types."""

import re
from collections.abc import Sequence
from typing import Final

from togetherchat_server.calls.validation.bounds import RequestLimits
from togetherchat_server.calls.validation.violations import Violations

# RFC 6838, 4.2: names of types and subtypes; no parameters.
_MEDIA_TYPE: Final = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
)
_WORD: Final = re.compile(r"[A-Za-z0-9_.-]+")

_HOST_START: Final = re.compile(r"[^/?#]")
_WEB_SCHEMES: Final = ("http://", "https://")
_SCHEME_CHARACTERS: Final = len("https://")


def is_model_id(text: str, limits: RequestLimits) -> bool:
    return 0 < len(text) <= limits.model_characters_max and text.isprintable() and " " not in text


def model_id_rule(limits: RequestLimits) -> str:
    return f"must have 1 to {limits.model_characters_max} printable characters and no spaces"


def is_word(text: str, limits: RequestLimits) -> bool:
    return len(text) <= limits.word_characters_max and _WORD.fullmatch(text) is not None


def is_media_type(text: str) -> bool:
    return _MEDIA_TYPE.fullmatch(text) is not None


def name_rule(limits: RequestLimits) -> str:
    return f"must have 1 to {limits.name_characters_max} characters"


def check_name(field: str, name: str, limits: RequestLimits, violations: Violations) -> None:
    """Check the size of a function's or schema's name. The provider judges its characters."""
    if not 0 < len(name) <= limits.name_characters_max:
        violations.add(field, name_rule(limits))


def check_length(field: str, text: str, characters_max: int, violations: Violations) -> None:
    if len(text) > characters_max:
        violations.add(field, f"must have at most {characters_max} characters")


def check_count(field: str, items: Sequence[object], count_max: int, violations: Violations) -> bool:
    """Return whether the number of items is within the bound, so that each may be checked."""
    if len(items) > count_max:
        violations.add(field, f"must have at most {count_max} entries")
        return False
    return True


def check_url(field: str, url: str, limits: RequestLimits, violations: Violations) -> None:
    """Check an http, https or data URL. This service never fetches it, so the check is shallow.

    A data URL may be megabytes long: only the part before its comma is checked.
    """
    start = url[:_SCHEME_CHARACTERS].lower()
    if start.startswith("data:"):
        head, comma, _ = url[: limits.url_characters_max].partition(",")
        if not comma or not _is_plain(head):
            violations.add(field, "a data URL must have a media type and a comma before its data")
    elif start.startswith(_WEB_SCHEMES):
        if len(url) > limits.url_characters_max:
            violations.add(field, f"must have at most {limits.url_characters_max} characters")
        elif not _is_plain(url) or not _HOST_START.match(url, start.index("://") + 3):
            violations.add(field, "must have a host, and neither spaces nor control characters")
    else:
        violations.add(field, "must be an http, https or data URL")


def _is_plain(text: str) -> bool:
    return text.isprintable() and " " not in text
