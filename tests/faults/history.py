"""What happened in a run: calls as their callers saw them, requests as the upstream got them, and
the service's own books. Values alone, so that the checker can be given a history made by hand.

Times are seconds on one monotonic clock. Texts are compact: see `answers.compact`.
"""

import json
from dataclasses import asdict, dataclass, field

LEFT = frozenset({"cancel", "stop reading", "vanish"})
"""What a caller does that ends its call from its own side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSeen:
    """A call as its caller saw it."""

    id: str
    method: str
    action: str
    began_s: float
    ended_s: float
    code: str
    reason: str = ""
    """Of the details; empty where the status is the caller's own (it left, its timer ran out)."""
    text: str = ""
    completed: bool = False
    """Whether a stream sent its last event; a whole answer that came is one."""

    @property
    def left(self):
        return self.action in LEFT

    @property
    def told_by_service(self):
        return self.code == "OK" or bool(self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSeen:
    """A request as the upstream got it, and what it sent back."""

    id: str
    script: str
    received_s: float
    answered_s: float | None
    """When the last byte of the script was handed on; None if it never came to that."""
    closed_s: float | None
    """When its connection ended; None while it is open."""
    sent: str
    """The text in what was sent."""
    whole: bool
    """Whether everything was sent of a script that is a whole answer."""
    replaced: bool = False
    """Whether its connection had been used before and was closed without a byte: the service may
    send such a request once more, outside its books."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """A call in the service's own books."""

    id: str
    code: str
    reason: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A moment's rest, and the service's word that it is alive: what the machine did to both just then."""

    began_s: float
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What the service still held when all was over, less what it held before."""

    calls_in_flight: int
    upstream_requests: int
    descriptors: int
    memory_mib: float
    lines: int = 0
    """Lines of its log that are no call record: warnings, tracebacks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One run."""

    calls: list[CallSeen] = field(default_factory=list)
    requests: list[RequestSeen] = field(default_factory=list)
    booked: list[Booked] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    remains: Remains | None = None

    def write(self, file):
        """One JSON object a line, in the order of time where there is one."""
        timed = [(one.began_s, one) for one in (*self.calls, *self.probes)]
        timed += [(one.received_s, one) for one in self.requests]
        for _, one in sorted(timed, key=lambda pair: pair[0]):
            file.write(_line(one))
        for one in self.booked:
            file.write(_line(one))
        if self.remains is not None:
            file.write(_line(self.remains))


def _line(one):
    return json.dumps({"kind": type(one).__name__, **asdict(one)}, ensure_ascii=False) + "\n"
