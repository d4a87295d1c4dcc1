"""The plan of a run: the same for the same seed.

Owns the choice of each call's script and of its caller's action, and the outages of the upstream. Knows
no socket and no clock.
"""

import random
from dataclasses import dataclass

WHOLE_SCRIPTS = {
    "valid": 24, "slow": 8, "one byte at a time": 2, "never answers": 3, "cut": 3, "reset": 3, "silent": 3,
    "closed at once": 2, "reset at once": 2, "malformed": 2, "drips": 2, "no JSON": 1, "no HTTP": 1,
    "closes when idle": 4,
}  # fmt: skip
STREAM_SCRIPTS = {
    **WHOLE_SCRIPTS, "no end mark": 3, "after the end mark": 3, "error in the stream": 3, "error first": 3,
    "comments": 3, "until the connection ends": 3, "flood": 1, "silent at first": 2,
}  # fmt: skip
STATUSES = (400, 401, 403, 404, 408, 409, 422, 429, 500, 502, 503, 504, 529)
ACTIONS = {"stay": 50, "cancel": 20, "deadline": 14, "stop reading": 4, "read slowly": 4, "vanish": 8}
STATUS_SHARE = 0.12
MODELS = 24
OUTAGE_EVERY_CALLS = 500
"""An outage lasts for a tenth of this many calls, and fails some or all of the requests."""
OUTAGE_SHARES = (0.3, 1.0, 0.6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One planned call."""

    number: int
    id: str
    stream: bool
    model: str
    script: str
    action: str
    wait_s: float
    """Until the caller cancels, disconnects or times out, or between its reads."""
    pieces: int

    @property
    def method(self):
        return "StreamComplete" if self.stream else "Complete"


def planned(seed, number, actions=None):
    """Return the call with this number."""
    chance = random.Random(f"{seed}/{number}")
    stream = chance.random() < 0.6
    scripts = STREAM_SCRIPTS if stream else WHOLE_SCRIPTS
    script = _draw(chance, scripts)
    if chance.random() < STATUS_SHARE:
        script = f"status {chance.choice(STATUSES)}"
    return Planned(
        number=number,
        id=f"{seed}-{number}",
        stream=stream,
        model=f"model-{chance.randrange(MODELS)}",
        script=script,
        action=_draw(chance, actions or ACTIONS),
        wait_s=chance.random() ** 2 * 0.6,
        pieces=chance.randint(1, 12),
    )


def in_outage(seed, number, attempt):
    """Whether an outage fails an attempt in place of its script."""
    outage, position = divmod(number, OUTAGE_EVERY_CALLS)
    if outage == 0 or position >= OUTAGE_EVERY_CALLS // 10:
        return False
    return random.Random(f"{seed}/{number}/{attempt}").random() < OUTAGE_SHARES[outage % len(OUTAGE_SHARES)]


def _draw(chance, weights):
    return chance.choices(list(weights), list(weights.values()))[0]
