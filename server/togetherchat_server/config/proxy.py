"""Which egress proxy, if any, a URL is requested through.

Owns the syntax of a proxy's address and of the environment's variables: `http_proxy`, `https_proxy`,
`all_proxy` and `no_proxy`, in lower or upper case. As in curl, lower case wins, because a CGI server sets
`HTTP_PROXY` from a request header. `no_proxy` is read as Go's x/net/http/httpproxy reads it, which is
the most complete of the common rules: names with their subdomains, ports, addresses and CIDR.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
URL_PORTS: Final = {"http": 80, "https": 443}
RULE: Final = (
    "must be the URL of an HTTP, HTTPS or SOCKS5 proxy without a path, such as http://proxy.example.com:3128"
)

_HOST: Final = re.compile(r"[a-z0-9_.-]+|[0-9a-f.:]+(%[a-z0-9_.-]+)?")
_CREDENTIAL: Final = re.compile(r"[\x20-\x7e]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """The address of a proxy, and the user and password that it demands, if any."""

    scheme: str
    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)

    @property
    def is_socks(self) -> bool:
        return self.scheme.startswith("socks")

    @property
    def has_credentials(self) -> bool:
        return bool(self.user or self.password)

    def __str__(self) -> str:
        """Return the address without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_proxy(text: str) -> Proxy:
    """Read a proxy's address. The scheme is `http` if there is none.

    Raises:
        ValueError: it is not an address. The message does not quote it: it may have a password.
    """
    try:
        text = text.strip()
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname or "", parts.port
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
    except ValueError:
        raise ValueError(RULE) from None
    named = parts.scheme in PORTS and _HOST.fullmatch(host) is not None and port != 0
    if not named or _has_more(parts):
        raise ValueError(RULE)
    for credential in filter(None, (user, password)):
        if not _CREDENTIAL.fullmatch(credential):
            raise ValueError("user and password must be at most 255 printable ASCII characters")
    if ":" in user:
        raise ValueError("the user must not contain a colon")
    return Proxy(
        scheme=parts.scheme,
        host=host,
        port=port or PORTS[parts.scheme],
        user=user,
        password=password,
    )


def proxy_from_environment(url: str, environment: Mapping[str, str]) -> Proxy | None:
    """Return the proxy that the environment names for an http or https URL. Loopback needs none.

    Raises:
        ValueError: a variable is invalid. The message names it.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or URL_PORTS[parts.scheme]
    name, text = _first(environment, f"{parts.scheme}_proxy", "all_proxy")
    if not text or _is_loopback(host):
        return None
    _, exceptions = _first(environment, "no_proxy")
    if any(_matches(pattern, host, port) for pattern in re.split(r"[,\s]+", exceptions) if pattern):
        return None
    try:
        return parse_proxy(text)
    except ValueError as exc:
        raise ValueError(f"{name}: {exc}") from None


def _has_more(parts: SplitResult) -> bool:
    return parts.path not in {"", "/"} or bool(parts.query or parts.fragment)


def _first(environment: Mapping[str, str], *names: str) -> tuple[str, str]:
    """Return the first variable that is not empty, and its value."""
    for name in _both_cases(names):
        if value := environment.get(name, "").strip():
            return name, value
    return "", ""


def _both_cases(names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        yield name
        yield name.upper()


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host.rstrip(".").lower() == "localhost" or (address is not None and address.is_loopback)


def _matches(pattern: str, host: str, port: int) -> bool:
    """Return whether a pattern of `no_proxy` names a host and port."""
    if pattern == "*":
        return True
    address = _address(host)
    if "/" in pattern:
        return address is not None and _in_network(pattern, address)
    pattern, pattern_port = _split_port(pattern)
    if pattern_port and pattern_port != str(port):
        return False
    if (pattern_address := _address(pattern)) is not None or address is not None:
        return pattern_address == address
    name, pattern = host.rstrip(".").lower(), pattern.rstrip(".").lower().removeprefix("*")
    suffix = pattern if pattern.startswith(".") else f".{pattern}"
    return name == pattern or (suffix != "." and name.endswith(suffix))


def _in_network(pattern: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        return False


def _split_port(pattern: str) -> tuple[str, str]:
    """Split `host:port`, `[address]:port`, or a host or an address without a port."""
    if pattern.count(":") > 1 and not pattern.startswith("["):
        return pattern, ""  # an IPv6 address
    host, colon, port = pattern.rpartition(":")
    if colon and "]" not in port:
        return host, port
    return pattern, ""
