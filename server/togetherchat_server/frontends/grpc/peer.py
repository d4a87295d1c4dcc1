"""The peer of a connection, in gRPC's notation."""

from collections.abc import Iterable, Mapping
from typing import Protocol
from urllib.parse import unquote


class PeerContext(Protocol):
    """The part of gRPC's context that knows the TLS peer."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]: ...


def host_of(peer: str) -> str:
    """Return the address without its port: of `ipv4:127.0.0.1:5`, `ipv6:%5B::1%5D:5`, `unix:/run/socket`."""
    family, _, address = peer.partition(":")
    if family not in {"ipv4", "ipv6"}:
        return address
    return unquote(address.rpartition(":")[0]).strip("[]")


def certificate_of(context: PeerContext) -> bytes | None:
    """Return the peer's certificate in PEM; None if it presented none."""
    return next(iter(context.auth_context().get("x509_pem_cert", ())), None)
