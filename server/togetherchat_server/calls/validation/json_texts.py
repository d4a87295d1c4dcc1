"""Whether a text is one JSON object, not too deep and not too much to read.

The text itself goes on to the provider byte for byte; what is read here is thrown away.
"""

from typing import Final, cast, final

import orjson

from togetherchat_server.calls.validation.bounds import RequestLimits
from togetherchat_server.calls.validation.violations import Violations

_OBJECT: Final = "must be the text of one JSON object"


@final
class JsonTexts:
    """The JSON texts of one request, which share a budget."""

    def __init__(self, limits: RequestLimits, findings: Violations) -> None:
        self._limits = limits
        self._findings = findings
        self._characters_left = limits.json_characters_max
        self._containers_left = limits.json_containers_max

    def check(self, field: str, text: str) -> dict[str, object] | None:
        """The object, or None once what is wrong has been noted.

        orjson reads RFC 8259 strictly (no NaN, no comments, one document), gives up at a depth
        of 1,024 rather than overflow, and refuses numbers that no double holds.
        """
        containers = text.count("{") + text.count("[")  # in strings too, hence a bound from above
        self._characters_left -= len(text)
        self._containers_left -= containers
        if self._characters_left < 0 or self._containers_left < 0:
            self._findings.add(field, self._too_much())
            return None
        try:
            parsed: object = orjson.loads(text)
        except orjson.JSONDecodeError as exc:
            self._findings.add(field, f"{_OBJECT}; reading it ended at line {exc.lineno} column {exc.colno}")
            return None
        if not isinstance(parsed, dict):
            self._findings.add(field, _OBJECT)
            return None
        depth_max = self._limits.json_depth_max
        if containers > depth_max and _is_deeper(cast("object", parsed), depth_max):
            self._findings.add(field, f"must not be nested deeper than {depth_max}")
            return None
        return cast("dict[str, object]", parsed)

    def _too_much(self) -> str:
        limits = self._limits
        return (
            f"the JSON texts of a request may have {limits.json_characters_max} characters "
            f"and {limits.json_containers_max} opening brackets together"
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
