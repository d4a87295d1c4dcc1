"""The leases of one replica: which of its calls in flight Redis is to know of. Pure.

A lease is held while its call is in flight. When that ends it is gone, until Redis has heard of it
or nobody can tell it any more.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, final

GONE_MAX: Final = 10_000
"""LeaseRegistry that wait for Redis to hear of their end. Those beyond are left to end by themselves."""

ByTenant: TypeAlias = Mapping[str, tuple[str, ...]]
"""Ids of leases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A tenant's call in flight, under a name that no other replica uses."""

    tenant: str
    id: str


@final
class LeaseRegistry:
    """`replica` tells this process from all others."""

    def __init__(self, replica: str) -> None:
        self._replica = replica
        self._made = 0
        self._held: set[Lease] = set()
        self._gone: set[Lease] = set()

    def new(self, tenant: str) -> Lease:
        self._made += 1
        return Lease(tenant=tenant, id=f"{self._replica}:{self._made}")

    def hold(self, lease: Lease) -> None:
        self._held.add(lease)

    def give_back(self, lease: Lease) -> None:
        """Also one that was never held: whether Redis has it may not be known."""
        self._held.discard(lease)
        if len(self._gone) < GONE_MAX:
            self._gone.add(lease)

    def held(self) -> ByTenant:
        return _by_tenant(self._held)

    def gone(self) -> ByTenant:
        return _by_tenant(self._gone)

    def forget(self, gone: ByTenant) -> None:
        """Redis has heard of the end of these, or will not hear of it."""
        self._gone -= {Lease(tenant=tenant, id=name) for tenant, names in gone.items() for name in names}

    def give_back_all(self) -> None:
        for lease in tuple(self._held):
            self.give_back(lease)


def _by_tenant(leases: Iterable[Lease]) -> ByTenant:
    found: dict[str, list[str]] = {}
    for lease in leases:
        found.setdefault(lease.tenant, []).append(lease.id)
    return {tenant: tuple(names) for tenant, names in found.items()}
