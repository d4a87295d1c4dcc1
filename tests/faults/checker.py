"""What must be true of any history, whatever went wrong in it. Pure: a history in, violations out.

Each law is a function; `check` asks them all. That each can fail is shown in `test_checker.py`.
"""

from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass

from faults.history import History, Probe

WINDOW_S = 10.0
RETRIES_SHARE = 0.1
RETRIES_FLOOR = 10
"""One a second."""
WAIT_S = 2.0
OUT_OF_TIME = frozenset({"CALLER_DEADLINE", "CALL_TIMEOUT", "FIRST_TOKEN_TIMEOUT"})
SURPRISES = frozenset({"INTERNAL_ERROR"})


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """How exact a law is kept on a machine that does other things too."""

    socket_s: float = 0.25
    """How long an upstream socket may outlive its call, beyond what a probe took at that time."""
    descriptors: int = 8
    """Files that a process may open and keep as it goes, such as those of its resolver."""


@dataclass(frozen=True, kw_only=True)
class Violation:
    law: str
    what: str

    def __str__(self):
        return f"{self.law}: {self.what}"


def check(history, tolerances=None):
    """Every violation of every law."""
    tolerances = tolerances or Tolerances()
    return [
        *one_ending(history),
        *no_surprise(history),
        *ok_only_if_whole(history),
        *only_what_was_sent(history),
        *sockets_end_with_calls(history, tolerances),
        *books_balance(history),
        *retries_within_budget(history),
        *nothing_is_left(history, tolerances),
    ]


def one_ending(history: History) -> Iterator[Violation]:
    """The books hold each call once, ended as its caller was told."""
    booked = defaultdict(list)
    for record in history.booked:
        booked[record.id].append(record)
    for call in history.calls:
        records = booked.pop(call.id, [])
        # A caller who leaves at once may never have reached the service; so may a deadline of nothing.
        least = 1 if call.told_by_service else 0
        if not least <= len(records) <= 1:
            yield Violation(law="one ending", what=f"{call.id} is in the books {len(records)} times")
        for record in records:
            if call.told_by_service and (record.code, record.reason) != (call.code, call.reason):
                told, entered = f"{call.code} {call.reason}", f"{record.code} {record.reason}"
                yield Violation(law="one ending", what=f"{call.id} was told {told}, the books say {entered}")
    for unknown in booked:
        yield Violation(law="one ending", what=f"the books hold {unknown}, which nobody called")


def no_surprise(history: History) -> Iterator[Violation]:
    """Every ending is one of the table; what the caller did not cause, the service explains."""
    for call in history.calls:
        own = call.left or (call.action, call.code) == ("deadline", "DEADLINE_EXCEEDED")
        if call.code == "UNKNOWN" or call.reason in SURPRISES or not (call.told_by_service or own):
            yield Violation(law="no surprise", what=f"{call.id} ended as {call.code} {call.reason}".strip())


def ok_only_if_whole(history: History) -> Iterator[Violation]:
    """OK means that the upstream sent its end mark, and that the caller has every character."""
    sent = _by_id(history)
    for call in history.calls:
        whole = [request for request in sent[call.id] if request.whole and request.sent == call.text]
        if call.code == "OK" and not whole:
            yield Violation(law="OK only if whole", what=f"{call.id} is OK without a whole answer like it")
        if (call.code == "OK") != call.completed and call.told_by_service:
            yield Violation(
                law="OK only if whole", what=f"{call.id}: {call.code}, completed: {call.completed}"
            )


def only_what_was_sent(history: History) -> Iterator[Violation]:
    """A caller's text is the beginning of what was sent for that call in one request."""
    sent = _by_id(history)
    for call in history.calls:
        if call.text and not any(request.sent.startswith(call.text) for request in sent[call.id]):
            yield Violation(
                law="only what was sent", what=f"{call.id} received {call.text[-60:]!r} out of nowhere"
            )


def sockets_end_with_calls(history: History, tolerances: Tolerances) -> Iterator[Violation]:
    """No upstream socket serves a call that has ended.

    On a machine that does other things too, a process may not run for a while: that much more
    a socket is given as the service took, meanwhile, to say that it is alive.
    """
    for call_id, ended_s, late_s in outlived(history):
        if late_s <= tolerances.socket_s:
            continue
        slow_s = max(
            (probe.took_s for probe in history.probes if _meet(probe, ended_s, ended_s + late_s)), default=0.0
        )
        if late_s > tolerances.socket_s + slow_s:
            yield Violation(
                law="sockets end with calls",
                what=f"{call_id} ended {late_s * 1000:.0f} ms before its socket, while a probe took {slow_s * 1000:.0f} ms",
            )


def outlived(history: History) -> Iterator[tuple[str, float, float]]:
    """The calls whose sockets served them for longer: when a call ended, and by how long. In seconds."""
    ended = {call.id: call.ended_s for call in history.calls}
    for request in history.requests:
        ended_s = ended.get(request.id)
        if ended_s is None:
            continue
        # A connection whose answer is complete is left for the next call.
        ends = [at for at in (request.answered_s, request.closed_s) if at is not None]
        late_s = min(ends, default=float("inf")) - ended_s
        if late_s > 0:
            yield request.id, ended_s, late_s


def _meet(probe: Probe, from_s: float, to_s: float) -> bool:
    return probe.began_s < to_s and from_s < probe.began_s + probe.took_s


def books_balance(history: History) -> Iterator[Violation]:
    """The attempts in the books are the requests that the upstream got."""
    asked = Counter(request.id for request in history.requests if not request.replaced)
    left = {call.id for call in history.calls if not call.told_by_service}
    for record in history.booked:
        # The last attempt of a call that was left, or ran out of time, may have ended on its way.
        on_its_way = 1 if record.id in left or record.reason in OUT_OF_TIME else 0
        if not 0 <= record.attempts - asked[record.id] <= on_its_way:
            yield Violation(
                law="books balance",
                what=f"{record.id}: {record.attempts} attempts, {asked[record.id]} requests",
            )


def retries_within_budget(history: History) -> Iterator[Violation]:
    """In any ten seconds retries are at most a tenth of the calls, and one a second."""
    for at_s, retries, firsts in retry_windows(history):
        if retries > RETRIES_SHARE * firsts + RETRIES_FLOOR:
            yield Violation(
                law="retries within budget",
                what=f"{retries} retries beside {firsts} calls in the {WINDOW_S:.0f} s to {at_s:.1f}",
            )


def retry_windows(history: History) -> Iterator[tuple[float, int, int]]:
    """For each retry: its time, and how many retries and calls there were in the window before it.

    The service counts a call when it begins to ask, and a retry before its wait: the calls are
    counted over a window that is longer by such a wait.
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
            yield request.received_s, len(retries), _between(began, since_s - WAIT_S, request.received_s)
        seen.add(request.id)


def nothing_is_left(history: History, tolerances: Tolerances) -> Iterator[Violation]:
    """When all is over the service holds what it held before."""
    remains = history.remains
    if remains is None:
        return
    for name in ("calls_in_flight", "upstream_requests", "lines"):
        if count := getattr(remains, name):
            yield Violation(law="nothing is left", what=f"{name}: {count}")
    if remains.descriptors > tolerances.descriptors:
        yield Violation(law="nothing is left", what=f"{remains.descriptors} more open files")


def _by_id(history):
    sent = defaultdict(list)
    for request in history.requests:
        sent[request.id].append(request)
    return sent


def _between(times, after, until):
    return bisect_right(times, until) - bisect_right(times, after)
