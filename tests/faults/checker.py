"""Invariants of any history, whatever faults it contains. Pure: a history in, violations out.

Each invariant is a function; `check` runs them all. `test_checker.py` shows that each can fail.
"""

from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass

from faults.history import History, Probe

WINDOW_S = 10.0
RETRIES_SHARE = 0.1
RETRIES_FLOOR = 10
"""One per second."""
DELAY_S = 2.0
OUT_OF_TIME = frozenset({"CALLER_DEADLINE", "CALL_TIMEOUT", "FIRST_TOKEN_TIMEOUT"})
SURPRISES = frozenset({"INTERNAL_ERROR"})


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """How exactly an invariant must hold on a busy machine."""

    socket_s: float = 0.25
    """How long an upstream socket may outlive its call, beyond what a probe took at that time."""
    descriptors: int = 8
    """Files that a process may open and keep while it runs, such as those of its resolver."""


@dataclass(frozen=True, kw_only=True)
class Violation:
    invariant: str
    detail: str

    def __str__(self):
        return f"{self.invariant}: {self.detail}"


def check(history, tolerances=None):
    """Every violation of every invariant."""
    tolerances = tolerances or Tolerances()
    return [
        *one_ending(history),
        *no_surprise(history),
        *ok_only_if_complete(history),
        *only_what_was_sent(history),
        *sockets_end_with_calls(history, tolerances),
        *records_match_requests(history),
        *retries_within_budget(history),
        *nothing_is_left(history, tolerances),
    ]


def one_ending(history: History) -> Iterator[Violation]:
    """The call records contain each call once, with the status that its caller received."""
    booked = defaultdict(list)
    for record in history.records:
        booked[record.id].append(record)
    for call in history.calls:
        records = booked.pop(call.id, [])
        # A caller that cancels at once may never have reached the service; nor may a deadline of zero.
        minimum = 1 if call.status_from_service else 0
        if not minimum <= len(records) <= 1:
            yield Violation(invariant="one ending", detail=f"{call.id} has {len(records)} call records")
        for record in records:
            if call.status_from_service and (record.code, record.reason) != (call.code, call.reason):
                received, recorded = f"{call.code} {call.reason}", f"{record.code} {record.reason}"
                yield Violation(
                    invariant="one ending", detail=f"{call.id} received {received}, its record has {recorded}"
                )
    for unknown in booked:
        yield Violation(
            invariant="one ending", detail=f"there is a record of {unknown}, which no caller made"
        )


def no_surprise(history: History) -> Iterator[Violation]:
    """Every status is in the error table; a failure that the caller did not cause has a reason."""
    for call in history.calls:
        own = call.left or (call.action, call.code) == ("deadline", "DEADLINE_EXCEEDED")
        if call.code == "UNKNOWN" or call.reason in SURPRISES or not (call.status_from_service or own):
            yield Violation(
                invariant="no surprise", detail=f"{call.id} ended as {call.code} {call.reason}".strip()
            )


def ok_only_if_complete(history: History) -> Iterator[Violation]:
    """OK means that the upstream sent its end mark and the caller received every character."""
    sent = _by_id(history)
    for call in history.calls:
        complete = [request for request in sent[call.id] if request.whole and request.sent == call.text]
        if call.code == "OK" and not complete:
            yield Violation(
                invariant="OK only if complete",
                detail=f"{call.id} is OK without a complete response of the same text",
            )
        if (call.code == "OK") != call.completed and call.status_from_service:
            yield Violation(
                invariant="OK only if complete", detail=f"{call.id}: {call.code}, completed: {call.completed}"
            )


def only_what_was_sent(history: History) -> Iterator[Violation]:
    """A caller's text is a prefix of what one request of that call was sent."""
    sent = _by_id(history)
    for call in history.calls:
        if call.text and not any(request.sent.startswith(call.text) for request in sent[call.id]):
            yield Violation(
                invariant="only what was sent",
                detail=f"{call.id} received {call.text[-60:]!r}, which was not sent for it",
            )


def sockets_end_with_calls(history: History, tolerances: Tolerances) -> Iterator[Violation]:
    """No upstream socket serves a call that has ended.

    On a busy machine a process may not run for a while. A socket is allowed as much more time as the
    service took at that moment to answer a liveness probe.
    """
    for call_id, ended_s, late_s in outlived(history):
        if late_s <= tolerances.socket_s:
            continue
        slow_s = max(
            (probe.took_s for probe in history.probes if _overlap(probe, ended_s, ended_s + late_s)),
            default=0.0,
        )
        if late_s > tolerances.socket_s + slow_s:
            yield Violation(
                invariant="sockets end with calls",
                detail=f"{call_id} ended {late_s * 1000:.0f} ms before its socket, while a probe took {slow_s * 1000:.0f} ms",
            )


def outlived(history: History) -> Iterator[tuple[str, float, float]]:
    """Calls whose sockets outlived them: the id, when the call ended, and by how much. In seconds."""
    ended = {call.id: call.ended_s for call in history.calls}
    for request in history.requests:
        ended_s = ended.get(request.id)
        if ended_s is None:
            continue
        # A connection whose response is complete stays open for the next call.
        ends = [at for at in (request.answered_s, request.closed_s) if at is not None]
        late_s = min(ends, default=float("inf")) - ended_s
        if late_s > 0:
            yield request.id, ended_s, late_s


def _overlap(probe: Probe, from_s: float, to_s: float) -> bool:
    return probe.began_s < to_s and from_s < probe.began_s + probe.took_s


def records_match_requests(history: History) -> Iterator[Violation]:
    """The attempts in the call records are the requests that the upstream received."""
    requests = Counter(request.id for request in history.requests if not request.replaced)
    left = {call.id for call in history.calls if not call.status_from_service}
    for record in history.records:
        # The last attempt of a call that was cancelled or timed out may never have arrived.
        not_arrived = 1 if record.id in left or record.reason in OUT_OF_TIME else 0
        if not 0 <= record.attempts - requests[record.id] <= not_arrived:
            yield Violation(
                invariant="records match requests",
                detail=f"{record.id}: {record.attempts} attempts, {requests[record.id]} requests",
            )


def retries_within_budget(history: History) -> Iterator[Violation]:
    """In any ten seconds retries are at most a tenth of the calls plus one per second."""
    for at_s, retries, firsts in retry_windows(history):
        if retries > RETRIES_SHARE * firsts + RETRIES_FLOOR:
            yield Violation(
                invariant="retries within budget",
                detail=f"{retries} retries beside {firsts} calls in the {WINDOW_S:.0f} s to {at_s:.1f}",
            )


def retry_windows(history: History) -> Iterator[tuple[float, int, int]]:
    """For each retry: its time, and how many retries and calls there were in the window before it.

    The service counts a call before its first attempt, and a retry before its delay: calls are
    counted over a window that is longer by such a delay.
    """
    seen: set[str] = set()
    began = sorted(call.began_s for call in history.calls)
    retries: deque[float] = deque()
    for request in sorted(history.requests, key=lambda request: request.received_s):
        if request.replaced:
            continue
        if request.id in seen:
            retries.append(request.received_s)
            since_s = request.received_s - WINDOW_S
            while retries[0] <= since_s:
                retries.popleft()
            yield request.received_s, len(retries), _between(began, since_s - DELAY_S, request.received_s)
        seen.add(request.id)


def nothing_is_left(history: History, tolerances: Tolerances) -> Iterator[Violation]:
    """After the run the service holds no more than before."""
    remains = history.remains
    if remains is None:
        return
    for name in ("calls_in_flight", "upstream_requests", "lines"):
        if count := getattr(remains, name):
            yield Violation(invariant="nothing is left", detail=f"{name}: {count}")
    if remains.descriptors > tolerances.descriptors:
        yield Violation(invariant="nothing is left", detail=f"{remains.descriptors} more open files")


def _by_id(history):
    sent = defaultdict(list)
    for request in history.requests:
        sent[request.id].append(request)
    return sent


def _between(times, after, until):
    return bisect_right(times, until) - bisect_right(times, after)
