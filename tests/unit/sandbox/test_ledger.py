"""What the ledger remembers, and what it never holds."""

from togetherchat_sandbox.ledger import LABEL_CHARACTERS_MAX, Ended, Ledger
from togetherchat_sandbox.repeats import Repeats
from togetherchat_sandbox.request import ChatRequest, Message
from togetherchat_sandbox.wire import encode


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def ledger_of(clock=None, requests_max=10):
    return Ledger(clock or Clock(), requests_max=requests_max)


def opened(ledger, number=1, connection=None, **more):
    fields = {"id": None, "method": "POST", "path": "/v1/chat/completions", **more}
    return ledger.open(connection, number=number, answer_id=f"answer-{number}", **fields)


def test_a_request_from_arrival_to_close():
    """Each moment is written down in seconds since the start."""
    clock = Clock()
    ledger = ledger_of(clock)
    connection = object()
    clock.now_s = 101
    entry = opened(ledger, connection=connection, id="mine")
    ledger.identify(entry, model="some/model", stream=True)
    clock.now_s = 102
    ledger.begin(entry, 200)
    entry.tokens_sent += 3
    clock.now_s = 103
    ledger.end(entry, Ended.COMPLETE)
    ledger.finish(entry)
    clock.now_s = 104
    ledger.connection_lost(connection)
    assert {
        "number": 1,
        "id": "mine",
        "answer_id": "answer-1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "model": "some/model",
        "stream": True,
        "received_at": 1,
        "first_byte_at": 2,
        "finished_at": 3,
        "closed_at": 4,
        "ended": "complete",
        "status": 200,
        "tokens_sent": 3,
    } == entry.told()


def test_a_request_that_runs():
    """Until something ends it, a request is running."""
    assert Ended.RUNNING is opened(ledger_of()).ended


def test_a_request_cut_off_was_cut_by_the_client():
    """Work that stops before the end of the reply means that the client hung up."""
    ledger = ledger_of()
    entry = opened(ledger)
    ledger.finish(entry)
    assert Ended.CLIENT_CLOSED is entry.ended


def test_a_request_cut_off_by_the_end_of_the_sandbox():
    """While the sandbox stops it is the sandbox that hangs up."""
    ledger = ledger_of()
    entry = opened(ledger)
    ledger.close()
    ledger.finish(entry)
    assert Ended.ABORTED_BY_SANDBOX is entry.ended


def test_the_first_ending_counts():
    """Who ended a request first has ended it."""
    ledger = ledger_of()
    entry = opened(ledger)
    ledger.end(entry, Ended.ABORTED_BY_SANDBOX)
    ledger.finish(entry)
    assert Ended.ABORTED_BY_SANDBOX is entry.ended


def test_a_connection_closes_all_its_requests():
    """Requests that shared a connection are closed together, and no others."""
    ledger = ledger_of()
    ours, others = object(), object()
    entries = [opened(ledger, number, connection) for number, connection in enumerate((ours, others, ours))]
    ledger.connection_lost(ours)
    assert [True, False, True] == [entry.closed_at is not None for entry in entries]


def test_the_list_is_bounded():
    """Old requests make room for new ones."""
    ledger = ledger_of(requests_max=2)
    for number in range(5):
        opened(ledger, number)
    assert [3, 4] == [entry.number for entry in ledger.entries()]


def test_filters():
    """A request is found by its model, by the caller's id and by ours."""
    ledger = ledger_of()
    ledger.identify(opened(ledger, 1, id="a"), model="x", stream=False)
    ledger.identify(opened(ledger, 2, id="b"), model="y", stream=False)
    assert [[1, 2], [2], [1], [2], []] == [
        [entry.number for entry in ledger.entries(**query)]
        for query in ({}, {"model": "y"}, {"id": "a"}, {"id": "answer-2"}, {"id": "a", "model": "y"})
    ]


def test_labels_are_cut_and_always_json():
    """Long or broken names of a caller are cut and cleaned."""
    ledger = ledger_of()
    entry = opened(ledger, id="\udcff" + "x" * 1_000)
    ledger.identify(entry, model="m" * 1_000, stream=False)
    assert [LABEL_CHARACTERS_MAX, LABEL_CHARACTERS_MAX, True] == [
        len(entry.id),
        len(entry.model),
        encode(ledger.told()).startswith(b'{"now":'),
    ]


def says(text, model="m"):
    return ChatRequest(model=model, messages=(Message(role="user", text=text),))


def test_the_same_question_is_counted():
    """A question is the same when model and last user message are."""
    repeats = Repeats(questions_max=10)
    assert [1, 2, 1, 1, 3] == [
        repeats.count(request) for request in (says("a"), says("a"), says("b"), says("a", "n"), says("a"))
    ]


def test_forgotten_questions_begin_again():
    """Past the bound the question asked least recently is forgotten."""
    repeats = Repeats(questions_max=2)
    assert [1, 1, 2, 1, 1] == [repeats.count(says(text)) for text in "abacb"]
