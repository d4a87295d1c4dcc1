"""The history of a run: calls as their callers saw them, requests as the upstream received them, and the
service's call records. Plain values, so that the checker can be tested with a hand-made history.

Times are seconds on one monotonic clock. Texts are compact: see `upstream_actor.compact`.
"""

import json
from dataclasses import asdict, dataclass, field

LEFT = frozenset({"cancel", "stop reading", "vanish"})
"""Actions of a caller that end its call from its own side."""


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
    """From the status details; empty if the status is the caller's own (cancelled, or its timer expired)."""
    text: str = ""
    completed: bool = False
    """Whether the completion arrived to its end."""

    @property
    def left(self):
        return self.action in LEFT

    @property
    def status_from_service(self):
        return self.code == "OK" or bool(self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSeen:
    """A request as the upstream received it, and what the upstream sent back."""

    id: str
    script: str
    received_s: float
    answered_s: float | None
    """When the last byte of the script was sent; None if it was not."""
    closed_s: float | None
    """When its connection ended; None while it is open."""
    sent: str
    """The text in what was sent."""
    whole: bool
    """Whether the script is a complete response and all of it was sent."""
    replaced: bool = False
    """Whether its connection was reused and closed without a byte: the service may send such a
    request once more without counting an attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A call record of the service."""

    id: str
    code: str
    reason: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A liveness probe of the service after a short pause: shows how late the machine made both."""

    began_s: float
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What the service held after the run, minus what it held before."""

    calls_in_flight: int
    upstream_requests: int
    descriptors: int
    memory_mib: float
    lines: int = 0
    """Lines of its log that are not call records: warnings, tracebacks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One run."""

    calls: list[CallSeen] = field(default_factory=list)
    requests: list[RequestSeen] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    remains: Remains | None = None

    def write(self, file):
        """Write one JSON object per line, ordered by time where entries have one."""
        timed = [(one.began_s, one) for one in (*self.calls, *self.probes)]
        timed += [(one.received_s, one) for one in self.requests]
        for _, one in sorted(timed, key=lambda pair: pair[0]):
            file.write(_line(one))
        for one in self.records:
            file.write(_line(one))
        if self.remains is not None:
            file.write(_line(self.remains))


def _line(one):
    return json.dumps({"kind": type(one).__name__, **asdict(one)}, ensure_ascii=False) + "\n"
