"""The leases of one replica: its calls in flight, as Redis must know them. Pure.

A lease is held while its call is in flight. When the call has ended, so has the lease. It is kept until
Redis has deleted it or will let it expire.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, final

ENDED_MAX: Final = 10_000
"""Ended leases that wait to be deleted from Redis. Further ones are left to expire."""

LeaseIds: TypeAlias = Mapping[str, tuple[str, ...]]
"""Ids of leases by tenant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A tenant's call in flight, with an id that no other replica uses."""

    tenant: str
    id: str


@final
class LeaseRegistry:
    """The leases of this process. `replica` is its unique name."""

    def __init__(self, replica: str) -> None:
        self._replica = replica
        self._count = 0
        self._held: set[Lease] = set()
        self._ended: set[Lease] = set()

    def new(self, tenant: str) -> Lease:
        self._count += 1
        return Lease(tenant=tenant, id=f"{self._replica}:{self._count}")

    def hold(self, lease: Lease) -> None:
        self._held.add(lease)

    def end(self, lease: Lease) -> None:
        """End a lease, even one that was never held: Redis may have it all the same."""
        self._held.discard(lease)
        if len(self._ended) < ENDED_MAX:
            self._ended.add(lease)

    def held(self) -> LeaseIds:
        return _by_tenant(self._held)

    def ended(self) -> LeaseIds:
        return _by_tenant(self._ended)

    def forget(self, ended: LeaseIds) -> None:
        """Forget ended leases that Redis has deleted or will let expire."""
        self._ended -= {Lease(tenant=tenant, id=name) for tenant, names in ended.items() for name in names}

    def end_all(self) -> None:
        for lease in tuple(self._held):
            self.end(lease)


def _by_tenant(leases: Iterable[Lease]) -> LeaseIds:
    ids: dict[str, list[str]] = {}
    for lease in leases:
        ids.setdefault(lease.tenant, []).append(lease.id)
    return {tenant: tuple(names) for tenant, names in ids.items()}
