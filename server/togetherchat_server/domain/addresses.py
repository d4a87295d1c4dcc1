"""Addresses of callers: their spelling, the networks that share a limit, and clients behind proxies."""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias, final

IPV6_NETWORK_BITS: Final = 64
"""An internet provider assigns each customer at least a network of this size."""
HOPS_MAX: Final = 32
"""Hops of a forwarded call that are read, the nearest first."""

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


def normalised(host: str) -> str:
    """Return the address of a peer without a zone, and an IPv4 address that IPv6 carries as IPv4."""
    if ":" not in host:
        return host
    address = _parsed(host)
    return host if address is None else str(address)


def network_of(host: str) -> str:
    """Return what shares one limit: an IPv4 address, or the /64 network of an IPv6 address."""
    if ":" not in host:
        return host
    address = _parsed(host)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((address, IPV6_NETWORK_BITS), strict=False))
    return host if address is None else str(address)


def in_networks(host: str, networks: Sequence[Network]) -> bool:
    """Return whether an address is in one of the networks."""
    address = _parsed(host) if networks else None
    return address is not None and any(address in network for network in networks)


@final
class TrustedProxies:
    """The proxies whose word about the client's address is believed."""

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._networks = tuple(networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def trusts(self, host: str) -> bool:
        """Return whether an address is one of a trusted proxy."""
        return in_networks(host, self._networks)

    def client_of(self, peer: str, forwarded_for: str) -> str:
        """Return the address of the client behind a peer.

        Each proxy appends the address that it received the call from. So the rightmost hop that is not a
        trusted proxy is the client. What is left of it, the client may have written itself.
        """
        client = normalised(peer)
        if not (forwarded_for and self.trusts(client)):
            return client
        for hop in reversed(forwarded_for.rsplit(",", HOPS_MAX)[-HOPS_MAX:]):
            address = _parsed(_without_port(hop.strip()))
            if address is None:
                return client
            client = str(address)
            if not self.trusts(client):
                return client
        return client


def _parsed(host: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def _without_port(hop: str) -> str:
    """Return the address of `192.0.2.1:80`, `[2001:db8::1]:80` or an address alone."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
