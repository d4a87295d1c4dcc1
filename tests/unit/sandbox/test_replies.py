"""From a request to the bytes, the times and the ending of its reply."""

import json

import pytest

from togetherchat_sandbox.misbehaviour import NAMES
from togetherchat_sandbox.replies import Scene, chat_reply, headed
from togetherchat_sandbox.reply import Ending, NoReply, Reply
from togetherchat_sandbox.request import ChatRequest, Message
from togetherchat_sandbox.settings import SandboxSettings
from togetherchat_sandbox.spoiling import HUGE_EVENT_BYTES, INVALID_UTF8
from togetherchat_sandbox.wire import DONE, KEEPALIVE

SETTINGS = SandboxSettings(first_token_ms=100, tokens_per_second=10)
NOON = 1_767_268_800  # 12:00 on the first of January 2026
TEXT = "one two three four five six"


def says(text=f"echo: {TEXT}", model="some/model", **fields):
    return ChatRequest(model=model, messages=(Message(role="user", text=text),), **fields)


def reply_to(name, *, attempt=1, **fields):
    scene = Scene(settings=SETTINGS, number=1, attempt=attempt, now_s=NOON)
    return headed(chat_reply(says(model=f"sandbox/{name}", **fields), scene), scene)


def pieces_of(name):
    return list(reply_to(name, stream=True).pieces)


def bytes_of(reply):
    return b"".join(piece.data for piece in reply.pieces)


def events_of(name):
    return [
        json.loads(piece.data.removeprefix(b"data: "))
        for piece in pieces_of(name)
        if piece.data.startswith(b"data: {")
    ]


def text_of(events):
    return "".join(choice["delta"].get("content", "") for event in events for choice in event["choices"])


def test_a_stream_is_events_and_a_marker():
    """The content type of the real API, an event for each chunk, the terminal marker at the end."""
    reply = reply_to("ordinary", stream=True)
    pieces = list(reply.pieces)
    assert (200, "text/event-stream;charset=utf-8", None, DONE, Ending.CLEAN) == (
        reply.status,
        reply.headers["content-type"],
        reply.length,
        pieces[-1].data,
        reply.ending,
    )
    assert all(piece.data.startswith(b"data: ") and piece.data.endswith(b"\n\n") for piece in pieces)


def test_each_token_has_its_time():
    """Tokens are due a beat apart, and those of several choices together."""
    assert [0.1, 0.2, 0.3] == [pytest.approx(piece.due_s) for piece in pieces_of("ordinary")[:3]]
    both = list(reply_to("ordinary", stream=True, choices=2).pieces)
    assert [0.1, 0.1, 0.2, 0.2] == [pytest.approx(piece.due_s) for piece in both[:4]]


def test_a_whole_answer_waits_as_long():
    """A body is due when its six tokens would have come, and its length is declared."""
    reply = reply_to("ordinary")
    (piece,) = reply.pieces
    assert ("application/json", len(piece.data), 6, pytest.approx(0.7)) == (
        reply.headers["content-type"],
        reply.length,
        piece.tokens,
        piece.due_s,
    )


def test_every_reply_is_marked_as_simulated():
    """Whatever comes back says that it comes from the sandbox, and which request it answers."""
    replies = [reply_to(row.model.removeprefix("sandbox/")) for row in NAMES]
    assert {"sandbox"} == {reply.headers["x-upstream"] for reply in replies if isinstance(reply, Reply)}
    told = json.loads(bytes_of(reply_to("ordinary")))
    assert told["id"] == reply_to("ordinary").headers["x-request-id"]


def test_rate_limits_are_shown_on_success_alone():
    """A success counts down; an error has no more than its own hints."""
    fine, refused = reply_to("ordinary").headers, reply_to("error-429").headers
    assert ("600", "599", "1", "1", "1") == (
        fine["x-ratelimit-limit"],
        fine["x-ratelimit-remaining"],
        fine["x-ratelimit-reset"],
        refused["x-ratelimit-reset"],
        refused["retry-after"],
    )
    assert "x-ratelimit-limit" not in refused


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_is_together_s_error(stream):
    """Errors have the identifier beside the error, whether a stream was asked for or not."""
    reply = reply_to("error-404", stream=stream)
    told = json.loads(bytes_of(reply))
    assert (404, {"id", "error"}, {"message", "type", "param", "code"}, "model_not_available", True) == (
        reply.status,
        set(told),
        set(told["error"]),
        told["error"]["code"],
        "model sandbox/error-404." in told["error"]["message"],
    )


def test_the_edge_answers_with_a_page():
    """A 502 is HTML, as Cloudflare sends it."""
    reply = reply_to("error-502")
    assert (502, "text/html; charset=UTF-8", b"<!DOCTYPE html>") == (
        reply.status,
        reply.headers["content-type"],
        bytes_of(reply)[:15],
    )


@pytest.mark.parametrize(("status", "attempt"), [(429, 1), (429, 2), (200, 3), (200, 4)])
def test_the_first_n_are_refused(status, attempt):
    """After two refusals of the same question the third is answered."""
    assert status == reply_to("error-429-x2", attempt=attempt).status


def test_a_date_to_retry_after():
    """The hint is an HTTP date two seconds ahead."""
    assert "Thu, 01 Jan 2026 12:00:02 GMT" == reply_to("retry-after-date").headers["retry-after"]


def test_what_does_not_fit_the_context_is_refused():
    """A refusal that only the planning finds is a reply as well."""
    assert 422 == reply_to("ordinary", max_tokens=2**30).status


@pytest.mark.parametrize(("ending", "name"), [(Ending.RESET, "reset"), (Ending.SILENCE, "stall")])
@pytest.mark.parametrize("stream", [False, True])
def test_no_reply_at_all(ending, name, stream):
    """Some names send not even headers."""
    assert NoReply(ending) == reply_to(name, stream=stream)


@pytest.mark.parametrize(
    ("ending", "tokens", "name"),
    [
        (Ending.RESET, "one two three", "cut-stream"),
        (Ending.CUT, "one two three", "cut-body"),
        (Ending.CLEAN, "one two three", "cut-stream-clean"),
        (Ending.SILENCE, "one two three", "stall-after-3"),
        (Ending.SILENCE, "", "stall-after-0"),
    ],
)
def test_streams_that_stop_early(ending, tokens, name):
    """So many tokens, no finish reason, no marker, and the ending of the name."""
    reply, events = reply_to(name, stream=True), events_of(name)
    assert (ending, tokens) == (reply.ending, text_of(events))
    assert not any(choice["finish_reason"] for event in events for choice in event["choices"])
    assert DONE not in bytes_of(reply_to(name, stream=True))


@pytest.mark.parametrize(
    ("ending", "name"),
    [(Ending.RESET, "cut-stream"), (Ending.CUT, "cut-body"), (Ending.SILENCE, "stall-after-3")],
)
def test_bodies_that_stop_early(ending, name):
    """Half of the declared length, and the ending of the name."""
    reply = reply_to(name)
    assert (ending, reply.length // 2) == (reply.ending, len(bytes_of(reply)))


def test_an_end_without_marker():
    """`no-done` is whole but for the marker."""
    events = events_of("no-done")
    assert ("stop", TEXT, False) == (
        events[-1]["choices"][0]["finish_reason"],
        text_of(events),
        DONE in bytes_of(reply_to("no-done", stream=True)),
    )


@pytest.mark.parametrize(("tokens", "name"), [("", "stream-error"), ("one two", "stream-error-after-2")])
def test_errors_inside_a_stream(tokens, name):
    """An event with an error ends the stream; where nothing streams it is a 500."""
    *events, last = events_of(name)
    assert (tokens, "server_error", 500) == (text_of(events), last["error"]["type"], reply_to(name).status)
    assert not bytes_of(reply_to(name, stream=True)).endswith(DONE)


def test_a_torn_event():
    """After the first token comes an event that is no JSON; the rest goes on."""
    pieces = pieces_of("malformed-event")
    with pytest.raises(ValueError, match="Unterminated"):
        json.loads(pieces[1].data.removeprefix(b"data: ").strip())
    assert DONE == pieces[-1].data


@pytest.mark.parametrize("name", ["malformed-json", "malformed-event"])
def test_broken_json(name):
    """A body that calls itself JSON cannot be read."""
    reply = reply_to(name)
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(bytes_of(reply))
    assert (200, "application/json") == (reply.status, reply.headers["content-type"])


@pytest.mark.parametrize("stream", [False, True])
def test_bytes_that_are_no_utf_8(stream):
    """The content holds bytes that no decoder takes."""
    data = bytes_of(reply_to("invalid-utf8", stream=stream))
    assert INVALID_UTF8 in data
    with pytest.raises(UnicodeDecodeError):
        data.decode()


@pytest.mark.parametrize("stream", [False, True])
def test_half_a_surrogate_pair(stream):
    """The content holds an escaped half of a pair: JSON to some readers, broken to others."""
    assert b'"content":"\\ud83d' in bytes_of(reply_to("lone-surrogate", stream=stream))


def test_a_huge_event():
    """One event is larger than any reasonable bound; the rest is as usual."""
    sizes = [len(piece.data) for piece in pieces_of("huge-event")]
    assert [True, True] == [sizes[1] > HUGE_EVENT_BYTES, max(sizes[2:]) < 1_000]


def test_huge_bodies():
    """A stream of 40 MiB whose events stay below 1 MiB, a body of 20 MiB with its true length."""
    pieces, whole = pieces_of("huge-body"), reply_to("huge-body")
    assert [True, True, True] == [
        sum(len(piece.data) for piece in pieces) > 40 * 2**20,
        max(len(piece.data) for piece in pieces) < 2**20,
        whole.length == len(bytes_of(whole)) > 20 * 2**20,
    ]


def test_bytes_after_the_end():
    """Something comes after the marker, or after the JSON."""
    assert [b"noise", b"noise"] == [
        bytes_of(reply_to("trailing-bytes", stream=stream))[-5:] for stream in (False, True)
    ]
    assert DONE in bytes_of(reply_to("trailing-bytes", stream=True))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "content_type", "name"),
    [
        (302, None, "redirect"),
        (200, "text/html; charset=UTF-8", "html-200"),
        (200, "text/plain", "wrong-content-type"),
    ],
)
def test_other_things_than_answers(status, content_type, name, stream):
    """A redirect, a page, a wrong label: the same for both ways to ask."""
    reply = reply_to(name, stream=stream)
    assert (status, content_type) == (reply.status, reply.headers.get("content-type"))


def test_an_empty_body():
    """200, and nothing."""
    reply = reply_to("empty-body")
    assert (200, 0, b"") == (reply.status, reply.length, bytes_of(reply))


def test_comments_before_the_first_event():
    """Three comments pass the time until the first token."""
    pieces = pieces_of("keepalive")
    assert ([KEEPALIVE] * 3, True, 0.1) == (
        [piece.data for piece in pieces[:3]],
        pieces[0].due_s < pieces[1].due_s < pieces[2].due_s < 0.1,
        pytest.approx(pieces[3].due_s),
    )


def test_identifiers_follow_the_seed():
    """The same seed and number give the same identifier; another number another one."""
    first, again, second = (Scene(settings=SETTINGS, number=number).answer_id for number in (1, 1, 2))
    assert (True, False) == (first == again, first == second)
