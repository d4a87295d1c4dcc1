"""Collects the violations of a request."""

from typing import Final, final

from togetherchat_server.domain.reasons import FieldViolation, Reason, ServiceError

_AND_MORE: Final = "there are more violations: the rest of the request was not checked"


@final
class Violations:
    """The violations found so far. One more than the bound ends validation."""

    def __init__(self, violations_max: int) -> None:
        self._violations_max = violations_max
        self._violations: list[FieldViolation] = []

    def add(self, field: str, description: str) -> None:
        """Add a violation of `field`, a path; `description` states what is allowed."""
        if len(self._violations) == self._violations_max:
            self._violations.append(FieldViolation(field=field, description=_AND_MORE))
            self.raise_if_any()
        self._violations.append(FieldViolation(field=field, description=description))

    def raise_if_any(self) -> None:
        if not self._violations:
            return
        first, *others = self._violations
        more = f" (and {len(others)} more)" if others else ""
        raise ServiceError(
            Reason.INVALID_REQUEST,
            f"{first.field}: {first.description}{more}",
            violations=tuple(self._violations),
        )
