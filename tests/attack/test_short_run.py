"""Every attack, bounded by its size instead of a clock, against a service with 1,024 files.

`make attack` runs the same attacks for a minute each, and judges memory, probes and latencies. Here the
service must survive, answer its probes and serve its honest callers.
"""

import sys

import pytest

from attack.__main__ import Intensity, attacked
from attack.table import ATTACKS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and connects from 127.0.1.x")

SHORT = Intensity(seconds=4.0, rounds=1, connections=400)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_the_service_survives(attack):
    """Whatever a stranger or a key holder sends, other callers are served."""
    seen, answers, _ = await attacked(attack, SHORT)

    assert not seen.killed
    assert answers
    assert 0 == seen.failed_probes
    assert (0, set()) == (seen.failed_calls, seen.causes)
    assert seen.calls > 0
