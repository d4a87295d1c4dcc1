"""Who is at the other end of a connection, as gRPC words it."""

from urllib.parse import unquote


def host_of(peer: str) -> str:
    """The address without its port: of `ipv4:127.0.0.1:5`, `ipv6:%5B::1%5D:5`, `unix:/run/socket`."""
    family, _, place = peer.partition(":")
    if family not in {"ipv4", "ipv6"}:
        return place
    return unquote(place.rpartition(":")[0]).strip("[]")
