"""Checks that a text is one JSON object, neither too deep nor too large to parse.

The text itself is sent to the provider byte for byte; the parsed object is discarded.
"""

from typing import Final, cast, final

import orjson

from togetherchat_server.calls.validation.bounds import RequestLimits
from togetherchat_server.calls.validation.violations import Violations

_OBJECT: Final = "must be one JSON object, as text"


@final
class JsonTexts:
    """The JSON texts of one request, which share a budget."""

    def __init__(self, limits: RequestLimits, violations: Violations) -> None:
        self._limits = limits
        self._violations = violations
        self._characters_left = limits.json_characters_max
        self._containers_left = limits.json_containers_max

    def check(self, field: str, text: str) -> dict[str, object] | None:
        """Return the object; None if a violation was added.

        orjson parses RFC 8259 strictly (no NaN, no comments, one document), fails at a depth of 1,024
        rather than overflow the stack, and rejects numbers that do not fit in a double.
        """
        # An upper bound: brackets inside strings count too.
        containers = text.count("{") + text.count("[")
        self._characters_left -= len(text)
        self._containers_left -= containers
        if self._characters_left < 0 or self._containers_left < 0:
            self._violations.add(field, self._too_large())
            return None
        try:
            parsed: object = orjson.loads(text)
        except orjson.JSONDecodeError as exc:
            self._violations.add(field, f"{_OBJECT}; parsing failed at line {exc.lineno} column {exc.colno}")
            return None
        if not isinstance(parsed, dict):
            self._violations.add(field, _OBJECT)
            return None
        depth_max = self._limits.json_depth_max
        if containers > depth_max and _is_deeper(cast("object", parsed), depth_max):
            self._violations.add(field, f"must not be nested deeper than {depth_max}")
            return None
        return cast("dict[str, object]", parsed)

    def _too_large(self) -> str:
        limits = self._limits
        return (
            f"all JSON texts of a request together may have at most {limits.json_characters_max} characters "
            f"and {limits.json_containers_max} opening brackets"
        )


def _is_deeper(parsed: object, depth_max: int) -> bool:
    level = [parsed]
    for _ in range(depth_max):
        level = [child for container in level for child in _children(container)]
        if not level:
            return False
    return True


def _children(container: object) -> list[object]:
    values = (
        cast("dict[str, object]", container).values()
        if isinstance(container, dict)
        else cast("list[object]", container)
    )
    return [value for value in values if isinstance(value, dict | list)]
