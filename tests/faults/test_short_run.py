"""A few hundred calls of the runner, the same ones each time. `make faults` runs it for longer."""

import sys

import pytest

from faults.checker import check
from faults.run import run, summary


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    ("seed", "actions", "booked_min"),
    [(1, None, 250), (2, {"cancel": 3, "vanish": 1}, 50)],
    ids=["mixed", "leaving"],
)
async def test_no_law_is_broken(seed, actions, booked_min):
    """Whatever calls, cancels and faults come together: `checker.py` says what holds.

    Many of those who leave have left before the service heard of them, the more the busier the machine is.
    """
    done = await run(seed=seed, calls=400, actions=actions)

    assert [] == check(done.history), "\n".join(summary(done))
    assert booked_min < len(done.history.booked)
    assert {"OK", "CANCELLED"} <= {call.code for call in done.history.calls}
