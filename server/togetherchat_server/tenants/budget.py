"""A tenant's money: what it has spent in the current day and month, and what its attempts may still cost.

Pure. Amounts are 1e-9 USD. An attempt reserves the most that it can cost before it is sent, and commits
what it did cost when it has ended. So `committed + reserved` never exceeds a budget, however many
attempts run at the same time.

An attempt belongs to the period of its call. When a period has ended, its sums are forgotten: an
attempt that ends later changes nothing that still matters. A call that arrived in the period before
reserves in the current one, so that a clock which is behind evades no budget.
"""

from dataclasses import dataclass, replace
from typing import Self

from togetherchat_server.domain.periods import Period


@dataclass(slots=True)
class Spending:
    """The sums of one tenant."""

    day: int = 0
    """The day of the sums, as in `Period`."""
    month: int = 0
    day_committed: int = 0
    month_committed: int = 0
    day_reserved: int = 0
    month_reserved: int = 0

    def day_left(self, budget: int) -> int:
        return budget - self.day_committed - self.day_reserved

    def month_left(self, budget: int) -> int:
        return budget - self.month_committed - self.month_reserved

    def roll(self, period: Period) -> None:
        """Begin a new day or month if one has begun."""
        if period.day > self.day:
            self.day, self.day_committed, self.day_reserved = period.day, 0, 0
        if period.month > self.month:
            self.month, self.month_committed, self.month_reserved = period.month, 0, 0

    def copy(self) -> Self:
        return replace(self)

    def add(self, period: Period, day_cost: int, month_cost: int) -> None:
        """Add what calls of a period cost before the sums began."""
        if period.day == self.day:
            self.day_committed += day_cost
        if period.month == self.month:
            self.month_committed += month_cost

    def reserve(self, nano_usd: int) -> None:
        """Reserve an amount in the current periods. The caller has checked that it fits."""
        self.day_reserved += nano_usd
        self.month_reserved += nano_usd

    def settle(self, period: Period, reserved: int, cost: int) -> None:
        """Replace what was reserved in a period by the cost, which may be higher.

        First commits, so that a death between the two counts too much rather than too little.
        """
        if period.day == self.day:
            self.day_committed += cost
            self.day_reserved -= reserved
        if period.month == self.month:
            self.month_committed += cost
            self.month_reserved -= reserved
