"""A few hundred calls of the seeded run, the same ones each time. `make faults` makes more."""

import sys

import pytest

from faults.checker import check
from faults.run import run, summary


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("seed", "actions", "records_min"),
    [(1, None, 250), (2, {"cancel": 3, "vanish": 1}, 50)],
    ids=["mixed", "leaving"],
)
async def test_no_invariant_is_violated(seed, actions, records_min):
    """The invariants of `checker.py` hold for any mix of calls, cancels and faults.

    Many cancelled calls never reach the service; the busier the machine is, the more.
    """
    done = await run(seed=seed, calls=400, actions=actions)

    assert [] == check(done.history), "\n".join(summary(done))
    assert records_min < len(done.history.records)
    assert {"OK", "CANCELLED"} <= {call.code for call in done.history.calls}
