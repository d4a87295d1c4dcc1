"""The request log: entries, bound and filters; and the repeat counter."""

from togetherchat_sandbox.encoding import encode
from togetherchat_sandbox.repeat_counter import RepeatCounter
from togetherchat_sandbox.request import ChatMessage, ChatRequest
from togetherchat_sandbox.request_log import LABEL_CHARACTERS_MAX, Ended, RequestLog


class Clock:
    """A clock that changes only when a test sets it."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def log_of(clock=None, requests_max=10):
    return RequestLog(clock or Clock(), requests_max=requests_max)


def added(request_log, number=1, connection=None, **more):
    fields = {"id": None, "method": "POST", "path": "/v1/chat/completions", **more}
    return request_log.add(connection, number=number, response_id=f"response-{number}", **fields)


def test_a_request_from_arrival_to_close():
    """Each event is logged with the seconds since the start."""
    clock = Clock()
    request_log = log_of(clock)
    connection = object()
    clock.now_s = 101
    entry = added(request_log, connection=connection, id="mine")
    request_log.set_model(entry, model="some/model", stream=True)
    clock.now_s = 102
    request_log.reply_started(entry, 200)
    entry.tokens_sent += 3
    clock.now_s = 103
    request_log.set_ended(entry, Ended.COMPLETE)
    request_log.finish(entry)
    clock.now_s = 104
    request_log.connection_lost(connection)
    assert {
        "number": 1,
        "id": "mine",
        "response_id": "response-1",
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
    } == entry.to_json()


def test_a_request_in_flight():
    """A request is running until it has ended."""
    assert Ended.RUNNING is added(log_of()).ended


def test_a_request_that_was_cut_off_by_the_client():
    """Work that stops before the end of the reply means that the client closed the connection."""
    request_log = log_of()
    entry = added(request_log)
    request_log.finish(entry)
    assert Ended.CLIENT_CLOSED is entry.ended


def test_a_request_that_was_cut_off_by_the_sandbox():
    """While the sandbox stops, cut-off requests are attributed to the sandbox."""
    request_log = log_of()
    entry = added(request_log)
    request_log.sandbox_stopping()
    request_log.finish(entry)
    assert Ended.ABORTED_BY_SANDBOX is entry.ended


def test_the_first_end_counts():
    """A later end does not replace the first."""
    request_log = log_of()
    entry = added(request_log)
    request_log.set_ended(entry, Ended.ABORTED_BY_SANDBOX)
    request_log.finish(entry)
    assert Ended.ABORTED_BY_SANDBOX is entry.ended


def test_a_lost_connection_closes_all_its_requests():
    """Requests on one connection are closed together, and no others."""
    request_log = log_of()
    ours, others = object(), object()
    entries = [
        added(request_log, number, connection) for number, connection in enumerate((ours, others, ours))
    ]
    request_log.connection_lost(ours)
    assert [True, False, True] == [entry.closed_at is not None for entry in entries]


def test_the_list_is_bounded():
    """The oldest requests are dropped first."""
    request_log = log_of(requests_max=2)
    for number in range(5):
        added(request_log, number)
    assert [3, 4] == [entry.number for entry in request_log.entries()]


def test_filters():
    """A request is found by its model, by the client's id and by ours."""
    request_log = log_of()
    request_log.set_model(added(request_log, 1, id="a"), model="x", stream=False)
    request_log.set_model(added(request_log, 2, id="b"), model="y", stream=False)
    assert [[1, 2], [2], [1], [2], []] == [
        [entry.number for entry in request_log.entries(**query)]
        for query in ({}, {"model": "y"}, {"id": "a"}, {"id": "response-2"}, {"id": "a", "model": "y"})
    ]


def test_labels_are_truncated_and_valid_json():
    """Long or invalid names from a client are truncated and cleaned."""
    request_log = log_of()
    entry = added(request_log, id="\udcff" + "x" * 1_000)
    request_log.set_model(entry, model="m" * 1_000, stream=False)
    assert [LABEL_CHARACTERS_MAX, LABEL_CHARACTERS_MAX, True] == [
        len(entry.id),
        len(entry.model),
        encode(request_log.to_json()).startswith(b'{"now":'),
    ]


def says(text, model="m"):
    return ChatRequest(model=model, messages=(ChatMessage(role="user", text=text),))


def test_repeats_are_counted():
    """Requests with the same model and last user message are repeats."""
    counter = RepeatCounter(requests_max=10)
    assert [1, 2, 1, 1, 3] == [
        counter.count(request) for request in (says("a"), says("a"), says("b"), says("a", "n"), says("a"))
    ]


def test_the_counter_is_bounded():
    """Past the bound, the least recently repeated request is dropped."""
    counter = RepeatCounter(requests_max=2)
    assert [1, 1, 2, 1, 1] == [counter.count(says(text)) for text in "abacb"]
