"""Rejects connections and look-ups of other machines in this process, and remembers them."""

import sys

LOOPBACK = {"127.0.0.1", "localhost", "::1", None, ""}
outside: list[str] = []
"""Hosts other than this machine that something looked up or connected to, and could not."""


def _reject_other_hosts(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in {"socket.connect", "socket.sendto"} and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in LOOPBACK:
        outside.append(host)
        raise OSError(f"{host} is not on this machine")


sys.addaudithook(_reject_other_hosts)
