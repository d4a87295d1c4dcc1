"""How often callers at one address may be refused for their credentials: a bucket for each address.

Owns what counts, how long an address then has to wait, and who need not. Pure: a clock goes in.

A caller who is refused here costs little. One whose key only the provider can judge costs a
request there, from this service's own address; and who tries keys is not to try many. So an
address that brings bad credentials again and again is answered at once, with a wait, until
its bucket has drained.

Behind a proxy every caller has the proxy's address, and one that goes on with a revoked key
would take the others down. So who has been served lately is served, whatever comes from beside
it: only a caller that nobody knows yet has to wait.
"""

import ipaddress
from collections.abc import Callable
from typing import Final, final

from togetherchat_server.domain.reasons import Reason, ServiceError

REMEMBERED_MAX: Final = 4096
"""Addresses with failures, and callers who were served; of more the oldest are forgotten."""
MINUTE_S: Final = 60.0
IPV6_NETWORK_BITS: Final = 64
"""What one customer of a network has at least, to choose addresses from."""

REJECTED_LOCALLY: Final = frozenset({Reason.MISSING_CREDENTIALS, Reason.INVALID_CREDENTIALS})
COUNTED: Final = REJECTED_LOCALLY | {Reason.CALLER_KEY_REJECTED}


@final
class AuthThrottle:
    """The buckets of one process. With `per_minute` 0 nothing is counted and nobody waits."""

    def __init__(self, *, per_minute: int, clock: Callable[[], float]) -> None:
        self._interval_s = MINUTE_S / per_minute if per_minute else 0.0
        self._clock = clock
        # When each address has drained, and those callers: oldest first, for a dict keeps its order.
        self._drained_s: dict[str, float] = {}
        self._served: dict[str, None] = {}
        self._watch_until_s = 0.0

    @property
    def watching(self) -> bool:
        """Whether any address may have to wait: nothing else has to be asked while it is false."""
        return self._watch_until_s > 0 and self._clock() < self._watch_until_s

    def served(self, caller: str) -> None:
        """The provider has answered a call of this caller. Empty: nothing tells it from others."""
        if caller and self._interval_s:
            self._served.pop(caller, None)
            self._served[caller] = None
            _forget_oldest(self._served)

    def check(self, host: str, caller: str) -> None:
        """Let a call pass, or refuse it before anything is done for it.

        Raises:
            ServiceError: CALLER_QUOTA, with the seconds to wait.
        """
        if self.watching and caller not in self._served:
            wait_s = self._wait_s(_address(host))
            if wait_s > 0:
                raise _refused(wait_s)

    def answer(self, host: str, caller: str, error: ServiceError) -> ServiceError:
        """What a failed call is answered with: its own error, counted if it is one of credentials; or
        that its address has to wait.
        """
        if not self._interval_s or error.reason not in COUNTED:
            return error
        self._served.pop(caller, None)
        address = _address(host)
        wait_s = self._wait_s(address)
        if wait_s > 0 and error.reason in REJECTED_LOCALLY:
            return _refused(wait_s)
        self._count(address)
        return error

    def _wait_s(self, address: str) -> float:
        """A bucket holds a minute's failures: how long until there is room for one."""
        full_s = MINUTE_S - self._interval_s
        return self._drained_s.get(address, 0.0) - self._clock() - full_s

    def _count(self, address: str) -> None:
        now_s = self._clock()
        drained_s = max(self._drained_s.pop(address, now_s), now_s) + self._interval_s
        self._drained_s[address] = min(drained_s, now_s + MINUTE_S)
        _forget_oldest(self._drained_s)
        self._watch_until_s = max(self._watch_until_s, drained_s - MINUTE_S + self._interval_s)


def _forget_oldest(remembered: dict[str, float] | dict[str, None]) -> None:
    if len(remembered) > REMEMBERED_MAX:
        del remembered[next(iter(remembered))]


def _refused(wait_s: float) -> ServiceError:
    return ServiceError(
        Reason.CALLER_QUOTA,
        "too many calls from this address were refused for their credentials: mend those, then come back",
        retry_after_s=wait_s,
    )


def _address(host: str) -> str:
    """What is counted as one: an address, of IPv6 its network."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((address, IPV6_NETWORK_BITS), strict=False))
    return host
