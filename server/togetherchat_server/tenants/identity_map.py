"""Maps the name in a JWT or a client certificate to its tenant, by the lists of the tenants file."""

from collections.abc import Iterable, Mapping
from typing import final

from togetherchat_server.tenants.patterns import matches


class AmbiguousIdentityError(Exception):
    """Several tenants claim one name. The message names them."""


@final
class IdentityMap:
    """The names and patterns of each tenant."""

    def __init__(self, patterns: Mapping[str, Iterable[str]]) -> None:
        self._exact: dict[str, set[str]] = {}
        self._patterns: list[tuple[str, str]] = []
        for tenant, names in patterns.items():
            for name in names:
                if "*" in name:
                    self._patterns.append((name, tenant))
                else:
                    self._exact.setdefault(name, set()).add(tenant)

    def __bool__(self) -> bool:
        return bool(self._exact or self._patterns)

    def tenant_of(self, names: Iterable[str]) -> str | None:
        """Return the tenant that lists one of the names of a caller; None if no tenant does.

        A name that is listed in full counts, whatever patterns match it.

        Raises:
            AmbiguousIdentityError: more than one tenant lists the names.
        """
        found = set[str]().union(*(self._tenants_of(name) for name in names))
        if len(found) > 1:
            raise AmbiguousIdentityError(f"tenants {', '.join(sorted(found))} list the same identity")
        return next(iter(found), None)

    def _tenants_of(self, name: str) -> set[str]:
        exact = self._exact.get(name)
        return exact or {tenant for pattern, tenant in self._patterns if matches(pattern, name)}
