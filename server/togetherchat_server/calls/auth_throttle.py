"""Auth throttle: limits how often the callers at one address may fail to authenticate.

Holds one bucket per party, and decides which failures count, how long a party has to wait and which
callers are exempt. A party is an address, the tenant of a caller that has authenticated, or a key that the
provider has rejected before. Pure: the clock is an argument.

A call that this service rejects by itself costs little. A key that only the provider can judge costs
a request there, sent from this service's own address, and an attacker must not be able to try many
keys. So an address that sends bad credentials again and again is rejected at once, with a delay,
until its bucket has drained.

Behind a proxy every caller has the proxy's address, and one caller with a bad key must not block the
others. So a caller that authenticated here, or was served recently, is exempt, whatever else its address
sends. And a key that the provider rejects counts against its address once, and every time against
itself. Only a caller that is not yet known waits while others at its address try many keys.
"""

from collections.abc import Callable
from typing import Final, final

from togetherchat_server.domain.addresses import network_of
from togetherchat_server.domain.bounded import remember
from togetherchat_server.domain.reasons import Reason, ServiceError

REMEMBERED_MAX: Final = 4096
"""Bound on the parties with failures, and on the callers that were served or rejected."""
MINUTE_S: Final = 60.0

COUNTED: Final = frozenset(reason for reason in Reason if reason.row.bad_credentials)


@final
class AuthThrottle:
    """The buckets of one process. With `per_minute` 0 nothing is counted and no caller waits."""

    def __init__(self, *, per_minute: int, clock: Callable[[], float]) -> None:
        self._interval_s = MINUTE_S / per_minute if per_minute else 0.0
        self._clock = clock
        # When the bucket of each party has drained, and the callers that were served or rejected.
        self._drained_s: dict[str, float] = {}
        self._served: dict[str, None] = {}
        self._rejected: dict[str, None] = {}
        self._active_until_s = 0.0

    @property
    def active(self) -> bool:
        """Whether any address may have to wait. While this is false, `check` need not be called."""
        return self._active_until_s > 0 and self._clock() < self._active_until_s

    def record_success(self, caller: str) -> None:
        """Exempt a caller whose call the provider has served. `caller` is empty if it is unknown."""
        if caller and self._interval_s:
            self._rejected.pop(caller, None)
            remember(self._served, caller, None, at_most=REMEMBERED_MAX)

    def check(self, party: str, caller: str) -> None:
        """Reject a call whose address or tenant has to wait, before any work is done for the call.

        Raises:
            ServiceError: CALLER_QUOTA, with the seconds to wait.
        """
        if self.active and caller not in self._served:
            wait_s = self._wait_s(self._bucket(party, caller))
            if wait_s > 0:
                raise _throttled(wait_s)

    def record_failure(self, party: str, caller: str, error: ServiceError) -> ServiceError:
        """Count a failed call if its reason is a credential, and return the error to send.

        This is `error` itself, or CALLER_QUOTA if the address has to wait.
        """
        if not self._interval_s or error.reason not in COUNTED:
            return error
        self._served.pop(caller, None)
        bucket = self._bucket(party, caller)
        wait_s = self._wait_s(bucket)
        judged_by_provider = error.reason is Reason.CALLER_KEY_REJECTED
        if wait_s > 0 and not judged_by_provider:
            return _throttled(wait_s)
        self._count(bucket)
        if judged_by_provider and caller and caller not in self._rejected:
            remember(self._rejected, caller, None, at_most=REMEMBERED_MAX)
            self._count(self._bucket(party, caller))
        return error

    def _bucket(self, party: str, caller: str) -> str:
        return f"key {caller}" if caller in self._rejected else network_of(party)

    def _wait_s(self, key: str) -> float:
        """Return how long until the bucket, which holds one minute's failures, has room for one more."""
        full_s = MINUTE_S - self._interval_s
        return self._drained_s.get(key, 0.0) - self._clock() - full_s

    def _count(self, key: str) -> None:
        now_s = self._clock()
        drained_s = max(self._drained_s.get(key, now_s), now_s) + self._interval_s
        remember(self._drained_s, key, min(drained_s, now_s + MINUTE_S), at_most=REMEMBERED_MAX)
        self._active_until_s = max(self._active_until_s, drained_s - MINUTE_S + self._interval_s)


def _throttled(wait_s: float) -> ServiceError:
    return ServiceError(
        Reason.CALLER_QUOTA,
        "too many calls from this address were rejected for their credentials; "
        "fix the credentials and retry after the delay",
        retry_after_s=wait_s,
    )
