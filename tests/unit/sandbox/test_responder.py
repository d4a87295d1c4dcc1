"""The bytes, the times and the end of the reply to a request."""

import json

import pytest

from togetherchat_sandbox.encoding import DONE, KEEPALIVE
from togetherchat_sandbox.fault_injection import HUGE_EVENT_BYTES, INVALID_UTF8, PROCESSING
from togetherchat_sandbox.faults import SANDBOX_MODELS
from togetherchat_sandbox.reply import NoReply, Reply, ReplyEnd
from togetherchat_sandbox.request import ChatMessage, ChatRequest
from togetherchat_sandbox.responder import ReplyContext, reply_to_chat, with_standard_headers
from togetherchat_sandbox.settings import SandboxSettings

SETTINGS = SandboxSettings(first_token_ms=100, tokens_per_second=10)
NOON = 1_767_268_800  # 12:00 on the first of January 2026
TEXT = "one two three four five six"


def says(text=f"echo: {TEXT}", model="some/model", **fields):
    return ChatRequest(model=model, messages=(ChatMessage(role="user", text=text),), **fields)


def reply_to(name, *, repeat=1, **fields):
    scene = ReplyContext(settings=SETTINGS, number=1, repeat=repeat, now_s=NOON)
    return with_standard_headers(reply_to_chat(says(model=f"sandbox/{name}", **fields), scene), scene)


def pieces_of(name):
    return list(reply_to(name, stream=True).parts)


def bytes_of(reply):
    return b"".join(piece.data for piece in reply.parts)


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
    parts = list(reply.parts)
    assert (200, "text/event-stream;charset=utf-8", None, DONE, ReplyEnd.COMPLETE) == (
        reply.status,
        reply.headers["content-type"],
        reply.length,
        parts[-1].data,
        reply.end,
    )
    assert all(piece.data.startswith(b"data: ") and piece.data.endswith(b"\n\n") for piece in parts)


def test_each_token_has_its_time():
    """Tokens are due one interval apart; the tokens of several choices are due together."""
    assert [0.1, 0.2, 0.3] == [pytest.approx(piece.due_s) for piece in pieces_of("ordinary")[:3]]
    both = list(reply_to("ordinary", stream=True, choices=2).parts)
    assert [0.1, 0.1, 0.2, 0.2] == [pytest.approx(piece.due_s) for piece in both[:4]]


def test_a_unary_response_is_due_with_its_last_token():
    """A unary body is due when its six tokens would have been sent, and its length is declared."""
    reply = reply_to("ordinary")
    (piece,) = reply.parts
    assert ("application/json", len(piece.data), 6, pytest.approx(0.7)) == (
        reply.headers["content-type"],
        reply.length,
        piece.tokens,
        piece.due_s,
    )


def test_every_reply_is_marked_as_simulated():
    """Every reply carries `x-upstream: sandbox` and the response id."""
    replies = [reply_to(row.model.removeprefix("sandbox/")) for row in SANDBOX_MODELS]
    assert {"sandbox"} == {reply.headers["x-upstream"] for reply in replies if isinstance(reply, Reply)}
    body = json.loads(bytes_of(reply_to("ordinary")))
    assert body["id"] == reply_to("ordinary").headers["x-request-id"]


def test_rate_limits_are_shown_on_success_alone():
    """A success has rate-limit headers; an error has only its own."""
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
def test_errors_have_togethers_form(stream):
    """The id is beside the error, whether a stream was requested or not."""
    reply = reply_to("error-404", stream=stream)
    body = json.loads(bytes_of(reply))
    assert (404, {"id", "error"}, {"message", "type", "param", "code"}, "model_not_available", True) == (
        reply.status,
        set(body),
        set(body["error"]),
        body["error"]["code"],
        "model sandbox/error-404." in body["error"]["message"],
    )


def test_errors_of_the_edge_are_html():
    """A 502 is an HTML page, like Cloudflare's."""
    reply = reply_to("error-502")
    assert (502, "text/html; charset=UTF-8", b"<!DOCTYPE html>") == (
        reply.status,
        reply.headers["content-type"],
        bytes_of(reply)[:15],
    )


@pytest.mark.parametrize(("status", "repeat"), [(429, 1), (429, 2), (200, 3), (200, 4)])
def test_the_first_n_fail(status, repeat):
    """After two errors the third repeat of a request succeeds."""
    assert status == reply_to("error-429-x2", repeat=repeat).status


def test_retry_after_as_a_date():
    """`retry-after` is an HTTP date two seconds ahead."""
    assert "Thu, 01 Jan 2026 12:00:02 GMT" == reply_to("retry-after-date").headers["retry-after"]


def test_a_request_beyond_the_context_is_rejected():
    """A rejection during planning is a reply as well."""
    assert 422 == reply_to("ordinary", max_tokens=2**30).status


@pytest.mark.parametrize(("end", "name"), [(ReplyEnd.RESET, "reset"), (ReplyEnd.STALL, "stall")])
@pytest.mark.parametrize("stream", [False, True])
def test_no_reply(end, name, stream):
    """Some models send nothing, not even headers."""
    reply = reply_to(name, stream=stream)
    assert (NoReply, end) == (type(reply), reply.end)


@pytest.mark.parametrize(
    ("end", "tokens", "name"),
    [
        (ReplyEnd.RESET, "one two three", "cut-stream"),
        (ReplyEnd.CLOSE, "one two three", "cut-body"),
        (ReplyEnd.COMPLETE, "one two three", "cut-stream-clean"),
        (ReplyEnd.STALL, "one two three", "stall-after-3"),
        (ReplyEnd.STALL, "", "stall-after-0"),
    ],
)
def test_streams_that_stop_early(end, tokens, name):
    """The stream has the number of tokens, no finish reason, no marker, and the end of the model."""
    reply, events = reply_to(name, stream=True), events_of(name)
    assert (end, tokens) == (reply.end, text_of(events))
    assert not any(choice["finish_reason"] for event in events for choice in event["choices"])
    assert DONE not in bytes_of(reply_to(name, stream=True))


@pytest.mark.parametrize(
    ("end", "name"),
    [(ReplyEnd.RESET, "cut-stream"), (ReplyEnd.CLOSE, "cut-body"), (ReplyEnd.STALL, "stall-after-3")],
)
def test_bodies_that_stop_early(end, name):
    """The body has half of the declared length, and the end of the model."""
    reply = reply_to(name)
    assert (end, reply.length // 2) == (reply.end, len(bytes_of(reply)))


def test_a_stream_without_done():
    """`no-done` lacks only the marker."""
    events = events_of("no-done")
    assert ("stop", TEXT, False) == (
        events[-1]["choices"][0]["finish_reason"],
        text_of(events),
        DONE in bytes_of(reply_to("no-done", stream=True)),
    )


@pytest.mark.parametrize(("tokens", "name"), [("", "stream-error"), ("one two", "stream-error-after-2")])
def test_errors_inside_a_stream(tokens, name):
    """An error event ends the stream; a unary response is a 500."""
    *events, last = events_of(name)
    assert (tokens, "server_error", 500) == (text_of(events), last["error"]["type"], reply_to(name).status)
    assert not bytes_of(reply_to(name, stream=True)).endswith(DONE)


def test_a_malformed_event():
    """An event after the first token is not JSON; the stream continues."""
    parts = pieces_of("malformed-event")
    with pytest.raises(ValueError, match="Unterminated"):
        json.loads(parts[1].data.removeprefix(b"data: ").strip())
    assert DONE == parts[-1].data


@pytest.mark.parametrize("name", ["malformed-json", "malformed-event"])
def test_malformed_json(name):
    """A body with the content type JSON cannot be parsed."""
    reply = reply_to(name)
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(bytes_of(reply))
    assert (200, "application/json") == (reply.status, reply.headers["content-type"])


@pytest.mark.parametrize("stream", [False, True])
def test_invalid_utf_8(stream):
    """The content contains bytes that are not UTF-8."""
    data = bytes_of(reply_to("invalid-utf8", stream=stream))
    assert INVALID_UTF8 in data
    with pytest.raises(UnicodeDecodeError):
        data.decode()


@pytest.mark.parametrize("stream", [False, True])
def test_half_a_surrogate_pair(stream):
    """The content contains an escaped lone surrogate: some JSON parsers accept it, others reject it."""
    assert b'"content":"\\ud83d' in bytes_of(reply_to("lone-surrogate", stream=stream))


def test_a_huge_event():
    """One event exceeds any reasonable bound; the other events are small."""
    sizes = [len(piece.data) for piece in pieces_of("huge-event")]
    assert [True, True] == [sizes[1] > HUGE_EVENT_BYTES, max(sizes[2:]) < 1_000]


def test_huge_bodies():
    """A stream has 40 MiB in events below 1 MiB; a unary body has 20 MiB and its true length."""
    parts, whole = pieces_of("huge-body"), reply_to("huge-body")
    assert [True, True, True] == [
        sum(len(piece.data) for piece in parts) > 40 * 2**20,
        max(len(piece.data) for piece in parts) < 2**20,
        whole.length == len(bytes_of(whole)) > 20 * 2**20,
    ]


def test_bytes_after_the_end():
    """Bytes follow the marker of a stream, or the JSON of a unary response."""
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
def test_redirects_pages_and_content_types(status, content_type, name, stream):
    """A redirect, an HTML page and a wrong content type: the same for streams and unary responses."""
    reply = reply_to(name, stream=stream)
    assert (status, content_type) == (reply.status, reply.headers.get("content-type"))


def test_an_empty_body():
    """The status is 200 and the body is empty."""
    reply = reply_to("empty-body")
    assert (200, 0, b"") == (reply.status, reply.length, bytes_of(reply))


def test_comments_before_the_first_event():
    """Three comments precede the first token."""
    parts = pieces_of("keepalive")
    assert ([KEEPALIVE] * 3, True, 0.1) == (
        [piece.data for piece in parts[:3]],
        parts[0].due_s < parts[1].due_s < parts[2].due_s < 0.1,
        pytest.approx(parts[3].due_s),
    )


def test_response_ids_follow_the_seed():
    """Equal seeds and numbers give equal ids; another number gives another id."""
    first, again, second = (
        ReplyContext(settings=SETTINGS, number=number).response_id for number in (1, 1, 2)
    )
    assert (True, False) == (first == again, first == second)


def test_a_character_is_split():
    """The two halves of an emoji are in two events; the unary body has it whole."""
    stream, body = (
        b"".join(piece.data for piece in pieces_of("split-character")),
        bytes_of(reply_to("split-character")),
    )
    assert stream.index(rb'"content":"Hi \ud83d"') < stream.index(rb'"content":"\ude00! "')
    assert rb'"content":"Hi \ud83d\ude00! one two' in body


@pytest.mark.parametrize(("name", "text"), [("choice-error", ""), ("choice-error-after-3", "one two three")])
def test_a_choice_fails(name, text):
    """The choice has the finish reason and the error, streamed and unary; the stream ends as usual."""
    *data, done, _ = b"".join(piece.data for piece in pieces_of(name)).split(b"\n\n")
    *events, last = (json.loads(line.removeprefix(b"data: ")) for line in data)
    body = json.loads(bytes_of(reply_to(name)))
    assert (text, DONE) == (text_of(events), done + b"\n\n")
    for choice in (last["choices"][0], body["choices"][0]):
        assert ("error", 502) == (choice["finish_reason"], choice["error"]["code"])


def test_comments_between_tokens():
    """A comment is due half-way between two tokens."""
    parts = pieces_of("comments")
    due = [piece.due_s for piece in parts]
    assert [piece.data == PROCESSING for piece in parts] == [bool(number % 2) for number in range(len(parts))]
    assert sorted(due) == due
    assert due[1] == (due[0] + due[2]) / 2


@pytest.mark.parametrize(
    ("name", "content_type", "member"),
    [
        ("error-400-detail", "application/json", "detail"),
        ("error-400-errors", "application/json", "errors"),
        ("error-400-param", "application/json", "error"),
        ("error-400-list", "application/json", None),
        ("error-400-text", "text/plain; charset=utf-8", None),
    ],
)
def test_errors_in_other_forms(name, content_type, member):
    """The status is 400, and the body has the form that its name says."""
    reply = reply_to(name)
    assert (400, content_type) == (reply.status, reply.headers["content-type"])
    if member:
        assert [member] == list(json.loads(bytes_of(reply)))
