"""A few hundred calls of the runner, the same ones each time. `make faults` runs it for longer."""

import sys

import pytest

from faults.checker import check
from faults.run import run, summary


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    ("seed", "actions"), [(1, None), (2, {"cancel": 3, "vanish": 1})], ids=["mixed", "leaving"]
)
async def test_no_law_is_broken(seed, actions):
    """Whatever calls, cancels and faults come together: `checker.py` says what holds."""
    done = await run(seed=seed, calls=400, actions=actions)

    assert [] == check(done.history), "\n".join(summary(done))
    assert 250 < len(done.history.booked)
    assert {"OK", "CANCELLED"} <= {call.code for call in done.history.calls}
