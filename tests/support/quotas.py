"""What the tests of quotas share: a day, attempts that use tokens, and limits with budgets."""

from togetherchat_server.domain.periods import period_of
from togetherchat_server.tenants.quota_store import Claim, Grant

NOON_US = 1_800_014_400_000_000
"""2027-01-15, 12:00 UTC."""
TODAY = period_of(NOON_US)
TOMORROW = period_of(NOON_US + 86_400_000_000)
NEXT_MONTH = period_of(NOON_US + 31 * 86_400_000_000)
CENT = 10_000_000
"""In 1e-9 USD."""


def use_tokens(store, tenant, tokens, limits, now_s=0.0):
    """One attempt whose use is known exactly before it."""
    claim = Claim(tokens=tokens)
    granted = store.reserve(tenant, claim, limits, now_s, TODAY)
    assert isinstance(granted, Grant)
    store.settle(tenant, claim, claim, limits, now_s, granted.period)
