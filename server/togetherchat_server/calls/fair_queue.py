"""The order in which queued calls get capacity: fair between parties, and by urgency within one.

A *party* is a tenant, or a caller that stands in for one. Its calls share one queue. Between parties:
weighted deficit round robin (Shreedhar and Varghese, 1995), in which a call is one unit of work. In a
round, a party with weight 3 is served three times as many calls as one with weight 1; a party whose
queue is empty loses what it has not used, so that nobody saves up turns.

Within a party: higher priority first, then the earlier deadline, then the earlier arrival. A priority
never moves a call past the calls of another party.

Knows no clock and no future. The cost of an operation grows with the number of parties that wait and with
the length of one party's queue, not with the number of all calls.
"""

import bisect
import enum
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar, final

Call = TypeVar("Call")


class Priority(enum.IntEnum):
    """How urgent a call is among those of its party."""

    HIGH = 0
    NORMAL = 1
    LOW = 2

    @classmethod
    def parse(cls, text: str) -> "Priority | None":
        """Return the priority with a name in any case; NORMAL for no name, None for another."""
        return cls.__members__.get(text.strip().upper()) if text else cls.NORMAL


@dataclass(slots=True)
class _PartyQueue(Generic[Call]):
    """The calls of one party: sorted by priority, deadline and number, which is unique."""

    weight: float
    deficit: float = 0.0
    """The calls that it may still have served in its turn."""
    has_turn: bool = False
    entries: list[tuple[int, float, int, Call]] = field(default_factory=list[tuple[int, float, int, Call]])


@final
class FairQueue(Generic[Call]):
    """Calls that wait. A call is in the queue at most once."""

    def __init__(self) -> None:
        self._parties: OrderedDict[str, _PartyQueue[Call]] = OrderedDict()
        """The party at the front is being served."""
        self._places: dict[Call, tuple[str, int, float, int]] = {}
        self._added = 0

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, call: Call) -> bool:
        return call in self._places

    def parties(self) -> Iterable[str]:
        """Return the parties that have calls here."""
        return self._parties

    def length(self, party: str) -> int:
        """Return how many calls of a party wait."""
        queue = self._parties.get(party)
        return 0 if queue is None else len(queue.entries)

    def add(self, call: Call, party: str, *, weight: float, priority: Priority, deadline_s: float) -> None:
        """Add a call. A changed weight of its party applies from now on."""
        queue = self._parties.get(party)
        if queue is None:
            queue = self._parties[party] = _PartyQueue[Call](weight)
        queue.weight = weight
        self._added += 1
        bisect.insort(queue.entries, (priority, deadline_s, self._added, call), key=_rank)
        self._places[call] = (party, priority, deadline_s, self._added)

    def remove(self, call: Call) -> None:
        """Remove a call that no longer waits."""
        party, *rank = self._places.pop(call)
        queue = self._parties[party]
        del queue.entries[bisect.bisect_left(queue.entries, tuple(rank), key=_rank)]
        if not queue.entries:
            del self._parties[party]

    def take(self, may_take: Callable[[str], bool]) -> Call | None:
        """Remove and return the next call of a party that may take capacity; None if there is none.

        A party that may not is passed over, and gains nothing by that.
        """
        if not any(map(may_take, self._parties)):
            return None
        while True:
            party, queue = next(iter(self._parties.items()))
            if may_take(party):
                if not queue.has_turn:
                    queue.has_turn = True
                    queue.deficit += queue.weight
                if queue.deficit >= 1:
                    queue.deficit -= 1
                    call = queue.entries[0][-1]
                    self.remove(call)
                    return call
            queue.has_turn = False
            self._parties.move_to_end(party)

    def newest(self, party: str) -> Call:
        """Return the call of a party that is given up first: of the lowest priority the last to arrive."""
        return max(self._parties[party].entries, key=lambda entry: (entry[0], entry[2]))[-1]


def _rank(entry: tuple[int, float, int, object] | tuple[int, float, int]) -> tuple[int, float, int]:
    return entry[:3]  # calls themselves are not compared
