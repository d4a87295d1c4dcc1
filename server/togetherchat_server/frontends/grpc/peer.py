"""Parses the peer of a connection, in gRPC's notation."""

from urllib.parse import unquote


def host_of(peer: str) -> str:
    """Return the address without its port: of `ipv4:127.0.0.1:5`, `ipv6:%5B::1%5D:5`, `unix:/run/socket`."""
    family, _, address = peer.partition(":")
    if family not in {"ipv4", "ipv6"}:
        return address
    return unquote(address.rpartition(":")[0]).strip("[]")
