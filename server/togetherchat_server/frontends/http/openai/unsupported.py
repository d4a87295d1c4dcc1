"""Members of OpenAI's requests that have no field in the contract: ignored or rejected, by name."""

from collections.abc import Mapping
from typing import Final, final

from togetherchat_server.domain.reasons import FieldViolation, Reason, ServiceError
from togetherchat_server.frontends.http.openai import schema

IGNORED: Final = frozenset({"metadata", "prediction", "safety_identifier", "service_tier", "store"})

REJECTED: Final[Mapping[str, str]] = {
    "audio": "this service only returns text",
    "web_search_options": "Together has no web search",
}
REJECTED_IN_MESSAGES: Final[Mapping[str, str]] = {
    "audio": "Together does not accept the audio of earlier completions",
    "prefix": "Together cannot continue a message",
}
"""Name to the fix or the cause. A response without these members would not be the requested one."""


@final
class IgnoredMembers:
    """The names of the members that are ignored, each once, in the order of the request."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def add(self, name: str) -> None:
        self._names[name] = None

    def add_extra(self, path: str, parent: schema.RequestObject) -> None:
        """Add all unknown members of an object at this path."""
        if parent.model_extra:
            self._names |= dict.fromkeys(f"{path}.{name}" for name in parent.extra())

    def names(self) -> tuple[str, ...]:
        return tuple(self._names)


def invalid(field: str, description: str) -> ServiceError:
    """Return the error for one invalid field."""
    violation = FieldViolation(field=field, description=description)
    return ServiceError(Reason.INVALID_REQUEST, f"{field}: {description}", violations=(violation,))


def reject_members(present: Mapping[str, object], table: Mapping[str, str], prefix: str) -> None:
    """Raise for a member of the table, unless its value is empty. `prefix` precedes its name."""
    for name, value in present.items():
        if name in table and value not in (None, False, "", [], {}):
            raise invalid(f"{prefix}{name}", f"is not supported: {table[name]}")
