"""The order of queued calls: shares of parties, urgency within a party, and what is given up."""

import random
from collections import Counter

from togetherchat_server.calls.fair_queue import FairQueue, Priority

ANYONE = lambda _party: True  # noqa: E731
FAR_S = 1000.0


def queue_of(*parties, weights=None):
    """A queue with one call for each name of a party; a call is (party, its number)."""
    queue, counts = FairQueue(), Counter()
    for party in parties:
        counts[party] += 1
        add(queue, party, counts[party], weight=(weights or {}).get(party, 1.0))
    return queue


def add(queue, party, number, *, weight=1.0, priority=Priority.NORMAL, deadline_s=FAR_S):
    queue.add((party, number), party, weight=weight, priority=priority, deadline_s=deadline_s)


def served(queue, count=1000, may_take=ANYONE):
    """Take calls and return them."""
    taken = []
    while len(taken) < count and (call := queue.take(may_take)) is not None:
        taken.append(call)
    return taken


def parties_of(calls):
    return "".join(party for party, _ in calls)


def test_parties_are_served_in_turn():
    """A party with ten calls and one with two: the second does not wait for the ten."""
    assert "ababaaaaaaaa" == parties_of(served(queue_of(*"aaaaaaaaaabb")))


def test_one_party_is_first_come_first_served():
    assert [("a", 1), ("a", 2), ("a", 3)] == served(queue_of(*"aaa"))


def test_weights_are_shares():
    """Weight 3 is served three times for each call of weight 1."""
    calls = served(queue_of(*"ab" * 100, weights={"a": 3.0}), count=40)

    assert {"a": 30, "b": 10} == Counter(parties_of(calls))
    assert "aaabaaabaaab" == parties_of(calls)[:12]


def test_a_small_weight_is_served_at_last():
    """Weight 0.25 is served once in four rounds."""
    calls = served(queue_of(*"ab" * 100, weights={"a": 0.25}), count=50)

    assert {"a": 10, "b": 40} == Counter(parties_of(calls))


def test_a_party_saves_no_turns():
    """A party that was idle for long gets no more than its share when it returns."""
    queue = queue_of(*"a" * 50)
    served(queue, count=20)
    for number in range(50):
        add(queue, "b", number)

    assert 6 == parties_of(served(queue, count=12)).count("a")


def test_a_party_that_may_not_take_is_passed_over():
    """Its calls stay, and it is served when it may take again, without turns saved."""
    queue = queue_of(*"aaaabbbb")

    assert "bbb" == parties_of(served(queue, count=3, may_take=lambda party: party == "b"))
    assert "ab" == "".join(sorted(parties_of(served(queue, count=2))))
    assert queue.take(lambda party: party == "b") is None
    assert [3, 0] == [queue.length(party) for party in "ab"]


def test_urgency_orders_the_calls_of_one_party():
    """Priority first, then the deadline, then the arrival."""
    queue = FairQueue()
    add(queue, "a", 1, priority=Priority.LOW, deadline_s=1.0)
    add(queue, "a", 2, deadline_s=9.0)
    add(queue, "a", 3, deadline_s=5.0)
    add(queue, "a", 4, deadline_s=5.0)
    add(queue, "a", 5, priority=Priority.HIGH)

    assert [5, 3, 4, 2, 1] == [number for _, number in served(queue)]


def test_priority_moves_no_call_past_another_party():
    queue = queue_of(*"bbb")
    for number in range(3):
        add(queue, "a", number, priority=Priority.HIGH, deadline_s=0.0)

    assert "bababa" == parties_of(served(queue))


def test_the_newest_call_of_the_lowest_priority_is_given_up():
    queue = FairQueue()
    for number, priority in enumerate((Priority.LOW, Priority.LOW, Priority.HIGH, Priority.NORMAL)):
        add(queue, "a", number, priority=priority, deadline_s=FAR_S - number)
    given_up = []
    while queue:
        given_up.append(queue.newest("a")[1])
        queue.remove(("a", given_up[-1]))

    assert [1, 0, 3, 2] == given_up


def test_any_order_of_operations_keeps_every_call_once():
    """Calls that are added are taken, removed or left; the work is shared by weight while all wait."""
    rng = random.Random(20261130)
    for _ in range(50):
        queue, present, added = FairQueue(), set(), 0
        for _ in range(400):
            match rng.randrange(4):
                case 0 | 1:
                    added += 1
                    party = rng.choice("abcd")
                    queue.add(
                        added,
                        party,
                        weight=rng.choice((0.1, 0.5, 1.0, 7.0)),
                        priority=rng.choice(list(Priority)),
                        deadline_s=rng.random(),
                    )
                    present.add(added)
                case 2 if present:
                    gone = rng.choice(sorted(present))
                    queue.remove(gone)
                    present.discard(gone)
                case _:
                    allowed = set(rng.sample("abcd", 2))
                    waits = any(map(queue.length, allowed))
                    taken = queue.take(allowed.__contains__)
                    assert waits == (taken is not None)
                    present.discard(taken)
            assert len(queue) == len(present) == sum(map(queue.length, "abcd"))
        assert present == set(served(queue))
