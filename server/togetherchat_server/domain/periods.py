"""Days and months of UTC, as numbers, for what is counted per day or per month."""

import datetime as dt
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

DAY_US: Final = 86_400_000_000
HOUR_US: Final = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Period:
    """The day and the month of one moment."""

    day: int
    """Days since 1970-01-01."""
    month: int
    """Months since the year 0."""

    @property
    def day_start_us(self) -> int:
        """Microseconds since 1970, as every moment of this module."""
        return self.day * DAY_US

    @property
    def day_end_us(self) -> int:
        return (self.day + 1) * DAY_US

    @property
    def month_start_us(self) -> int:
        return _month_start_us(self.month)

    @property
    def month_end_us(self) -> int:
        return _month_start_us(self.month + 1)


def period_of(time_us: int) -> Period:
    """Return the day and the month of a moment."""
    return _period_of_day(time_us // DAY_US)


@lru_cache(maxsize=64)
def _period_of_day(day: int) -> Period:
    date = dt.date(1970, 1, 1) + dt.timedelta(days=day)
    return Period(day=day, month=date.year * 12 + date.month - 1)


@lru_cache(maxsize=64)
def _month_start_us(month: int) -> int:
    year, month_of_year = divmod(month, 12)
    return (dt.date(year, month_of_year + 1, 1) - dt.date(1970, 1, 1)).days * DAY_US
