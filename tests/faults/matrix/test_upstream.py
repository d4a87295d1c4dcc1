"""Faults of an upstream, one row each: the script, and how a call then ends.

The rows of one table run alike. Faults that need more than a script have their own test below.
"""

import asyncio
import gzip
import json
import random
import socket
import threading
from dataclasses import dataclass, field

import pytest

from faults.matrix.measure import peak_growth_mib
from faults.matrix.scene import METHODS, OK, Ending
from faults.responses import (
    DONE,
    chunk_json,
    completion,
    drip,
    error_response,
    event,
    stream_start,
    valid_response,
    wants_stream,
)
from support.app import grpc_timeout
from support.certificates import OPENSSL, make_certificate
from support.ports import refusing_port
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import (
    Fin,
    Pause,
    Pieces,
    Repeat,
    Reset,
    Send,
    Stall,
    chunk,
    head,
    html_response,
    http_response,
    json_response,
    sse,
    sse_head,
)

JSON = {"Content-Type": "application/json"}
MALFORMED = Ending(code="INTERNAL", reason="UPSTREAM_MALFORMED_RESPONSE", pushback="-1")
TOO_LARGE = Ending(code="INTERNAL", reason="UPSTREAM_TOO_LARGE", pushback="-1")
BROKEN = Ending(code="UNAVAILABLE", reason="UPSTREAM_RESET", pushback="-1")
CUT = Ending(code="UNAVAILABLE", reason="UPSTREAM_TRUNCATED", pushback="later")
CUT_AFTER_TEXT = Ending(code="UNAVAILABLE", reason="UPSTREAM_TRUNCATED", pushback="-1", text="Hi")
LATE = Ending(code="DEADLINE_EXCEEDED", reason="FIRST_TOKEN_TIMEOUT", pushback="-1")
SILENT = Ending(code="DEADLINE_EXCEEDED", reason="STREAM_IDLE_TIMEOUT", pushback="-1", text="Hi")

PAGE = "<html><title>Bad gateway</title>" + "<p>Ray ID</p>" * 500
SHORT_RETRY_AFTERS = {"first_token_timeout_s": 0.3, "response_timeout_s": 0.3, "stream_idle_timeout_s": 0.3}
SMALL_BOUNDS = {"max_response_bytes": 65536, "max_event_bytes": 65536, "max_stream_bytes": 262144}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A fault, and how a unary call and a stream end, unless the row is about one of them."""

    fault: str
    script: object
    ending: Ending
    methods: tuple = METHODS
    options: dict = field(default_factory=dict)


def unary(fault, steps, ending, **options):
    return Row(fault=fault, script=always(steps), ending=ending, methods=("Complete",), options=options)


def stream(fault, steps, ending, **options):
    return Row(fault=fault, script=always(steps), ending=ending, methods=("StreamComplete",), options=options)


def both(fault, steps, ending, **options):
    return Row(fault=fault, script=always(steps), ending=ending, options=options)


def ends(code, reason, pushback="", *, requests=1):
    return Ending(code=code, reason=reason, pushback=pushback, requests=requests)


def unavailable(reason, pushback="later", *, requests=1):
    return ends("UNAVAILABLE", reason, pushback, requests=requests)


BODY_OF_100 = head(200, {**JSON, "Content-Length": 100})
CHUNKED_BODY = head(200, {**JSON, "Transfer-Encoding": "chunked"})
MANY_HEADERS = b"".join(b"x-h-%d: v\r\n" % number for number in range(5000))
HUGE_HEADER = b"x-h: " + b"v" * 300_000 + b"\r\n"

CONNECTIONS = [
    both("reads the request and never responds", (Stall(),), LATE, **SHORT_RETRY_AFTERS),
    both("headers one byte at a time, slowly", drip(b"HTTP/1.1 200 ok\r\nContent-Type: text/html\r\n", every_s=0.05), LATE,
         **SHORT_RETRY_AFTERS),
    unary("unary body one byte at a time, slowly", (Send(BODY_OF_100), *drip(b"{" * 100, every_s=0.05)), LATE, **SHORT_RETRY_AFTERS),
    both("RST before headers on a fresh connection", (Reset(),), BROKEN),
    both("FIN before headers on a fresh connection", (Fin(),), BROKEN),
    both("RST in the headers", (Send(b"HTTP/1.1 200 ok\r\nContent-"), Reset()), BROKEN),
    unary("FIN in a unary body, length too short", (Send(BODY_OF_100 + b'{"id": '), Fin()), CUT),
    unary("RST in a unary body", (Send(BODY_OF_100 + b'{"id": '), Reset()), CUT),
    unary("FIN in a unary body, within a chunk", (Send(CHUNKED_BODY + b'ff\r\n{"id": '), Fin()), CUT),
    unary("a unary body whose first chunk is garbage", (Send(CHUNKED_BODY + b"zz\r\nnonsense\r\n"), Stall()), CUT),
    unary("a unary body whose second chunk is garbage", (Send(CHUNKED_BODY + chunk(b"{")), Pause(0.05), Send(b"zz\r\n"), Stall()), CUT),
    stream("RST in a stream, before the first event", (Send(sse_head()), Reset()), CUT),
    stream("RST in a stream, after a token", (stream_start(chunk_json()), Reset()), CUT_AFTER_TEXT),
    stream("FIN in a stream, after a token, within a chunk", (stream_start(chunk_json()), Send(b"ff\r\ndata: "), Fin()), CUT_AFTER_TEXT),
    stream("stream silent after token k", (stream_start(chunk_json()), Stall()), SILENT, **SHORT_RETRY_AFTERS),
    stream("endless comments do not count as a first token", (Send(sse_head()), *drip(chunk(b": keepalive\n\n") * 10, every_s=0.01)), LATE,
           **SHORT_RETRY_AFTERS),
    both("not HTTP", (Send(b"SSH-2.0-OpenSSH\r\n\r\n"), Stall()), MALFORMED),
    both("5,000 headers", (Send(b"HTTP/1.1 200 ok\r\n" + MANY_HEADERS), Stall()), MALFORMED),
    both("a header of 300 KB", (Send(b"HTTP/1.1 200 ok\r\n" + HUGE_HEADER), Stall()), MALFORMED),
]  # fmt: skip

FAILED_CHOICE = {"index": 0, "finish_reason": "error", "error": {"message": "busy", "code": 503}}

STREAMS = [
    stream("clean end, finish reason seen, no [DONE]", sse([chunk_json(), chunk_json("", "stop")]), OK),
    stream("clean end, neither marker", sse([chunk_json()]), CUT_AFTER_TEXT),
    stream("clean end, nothing at all", sse([]), CUT),
    stream("the last event without its blank line", (stream_start(chunk_json(), chunk_json("", "stop")), Send(chunk(b"data: [DONE]")), Send(chunk(b""))), OK),
    stream("error object before the first token, of a status that is retried",
           sse(['{"error": {"message": "busy", "code": 503}}']), unavailable("UPSTREAM_OVERLOADED", requests=3)),
    stream("error object before the first token, of a reason that is not retried",
           sse(['{"error": {"message": "no", "type": "server_error"}}']), ends("INTERNAL", "UPSTREAM_INTERNAL", "-1")),
    stream("a choice that failed before the first token", sse([json.dumps({"choices": [FAILED_CHOICE]}), DONE]),
           unavailable("UPSTREAM_OVERLOADED", requests=3)),
    stream("a choice that failed after a token", sse([chunk_json(), json.dumps({"choices": [FAILED_CHOICE]}), DONE]),
           Ending(code="UNAVAILABLE", reason="UPSTREAM_OVERLOADED", pushback="-1", text="Hi")),
    stream("comments between tokens, for longer than the idle timeout",
           (stream_start(chunk_json()), *drip(chunk(b": PROCESSING\n\n") * 2, every_s=0.02),
            Send(event(chunk_json("", "stop")) + event(DONE) + chunk(b""))), OK, stream_idle_timeout_s=0.3),
    stream("`event: error` before the first token",
           (Send(sse_head() + chunk(b'event: error\ndata: {"message": "busy", "code": "503"}\n\n') + chunk(b"")),),
           unavailable("UPSTREAM_OVERLOADED", requests=3)),
    stream("error object after a token", sse([chunk_json(), '{"error": {"message": "busy", "code": 503}}']),
           Ending(code="UNAVAILABLE", reason="UPSTREAM_OVERLOADED", pushback="-1", text="Hi")),
    stream("`event: error` after a token",
           (stream_start(chunk_json()), Send(chunk(b'event: error\ndata: {"message": "busy", "code": "503"}\n\n') + chunk(b""))),
           Ending(code="UNAVAILABLE", reason="UPSTREAM_OVERLOADED", pushback="-1", text="Hi")),
    stream("an event that is not JSON", sse([chunk_json(), "{nonsense", DONE]), Ending(code="INTERNAL", reason=MALFORMED.reason, pushback="-1", text="Hi")),
    stream("an event of another shape", sse(["[]", DONE]), MALFORMED),
    stream("JSON with an error in place of a stream", json_response(200, {"error": {"message": "busy", "code": 503}}),
           unavailable("UPSTREAM_OVERLOADED", requests=3)),
    stream("a page in place of a stream", html_response(200, PAGE), MALFORMED),
    stream("one event of 64 MB", (Send(sse_head()), Repeat(chunk(b"x" * 65536), 1000)), TOO_LARGE, **SMALL_BOUNDS),
    stream("a line without an end", (Send(sse_head()), Send(chunk(b"data: ")), Repeat(chunk(b"x" * 65536), 1000)), TOO_LARGE, **SMALL_BOUNDS),
    stream("one HTTP chunk of 64 MB", (Send(sse_head() + b"4000000\r\n"), Repeat(b"x" * 65536, 1024)), TOO_LARGE, **SMALL_BOUNDS),
]  # fmt: skip

BODIES = [
    unary("a body that is not JSON", http_response(200, b'{"id": ', JSON), MALFORMED),
    unary("a body of another shape", json_response(200, ["nothing"]), MALFORMED),
    unary("a body with an error and status 200", json_response(200, {"error": {"message": "busy", "code": 503}}),
          unavailable("UPSTREAM_OVERLOADED", requests=3)),
    unary("a body with a failed choice and status 200", json_response(200, {"choices": [FAILED_CHOICE]}),
          unavailable("UPSTREAM_OVERLOADED", requests=3)),
    unary("a page with status 200", html_response(200, PAGE), MALFORMED),
    unary("a body without an end", (Send(CHUNKED_BODY), Repeat(chunk(b"x" * 65536), 1000)), TOO_LARGE, **SMALL_BOUNDS),
    unary("gzip that was not requested", http_response(200, gzip.compress(json.dumps(completion()).encode()), {**JSON, "Content-Encoding": "gzip"}), OK),
    both("gzip that is cut", http_response(200, gzip.compress(b"{}")[:-1], {**JSON, "Content-Encoding": "gzip"}), MALFORMED),
    both("another coding that was not requested", http_response(200, b"{}", {**JSON, "Content-Encoding": "br"}), MALFORMED),
    both("gzip without Content-Encoding", http_response(200, gzip.compress(b"{}"), JSON), MALFORMED),
    both("100,000 nested arrays", http_response(200, b'{"id":' + b"[" * 100_000 + b"]" * 100_000 + b"}", JSON), MALFORMED),
    unary("duplicate keys: the last one counts", http_response(200, b'{"id":"a","choices":[],"choices":[{"index":0,"finish_reason":"stop",'
          b'"message":{"content":"no"},"message":{"content":"Hi"}}]}', JSON), OK),
]  # fmt: skip

STATUSES = [
    both("400", error_response(400), ends("INVALID_ARGUMENT", "UPSTREAM_INVALID_REQUEST")),
    both("422", error_response(422), ends("INVALID_ARGUMENT", "UPSTREAM_INVALID_REQUEST")),
    both("413", error_response(413), ends("INVALID_ARGUMENT", "REQUEST_TOO_LARGE")),
    both("401 to the service's own key", error_response(401, message="Invalid API key provided: tgp_v1_canary0123456789"),
         ends("UNAUTHENTICATED", "SERVICE_KEY_REJECTED")),
    both("402", error_response(402), ends("FAILED_PRECONDITION", "SPEND_LIMIT_REACHED", "-1")),
    both("403", error_response(403), ends("PERMISSION_DENIED", "UPSTREAM_PERMISSION_DENIED")),
    both("403 of the edge", html_response(403, PAGE), unavailable("UPSTREAM_EDGE_BLOCKED", "-1")),
    both("404", error_response(404), ends("INTERNAL", "UPSTREAM_ENDPOINT_NOT_FOUND", "-1")),
    both("404 about the model", error_response(404, code="model_not_available"), ends("NOT_FOUND", "MODEL_NOT_FOUND")),
    both("408", error_response(408), unavailable("UPSTREAM_REQUEST_TIMEOUT", requests=3)),
    both("409", error_response(409), ends("ABORTED", "UPSTREAM_CONFLICT", requests=3)),
    both("429 without a delay", error_response(429), ends("RESOURCE_EXHAUSTED", "RATE_LIMITED", "later", requests=3)),
    both("429 for a used-up quota", error_response(429, message="You exceeded your current quota, please check your billing details."),
         ends("RESOURCE_EXHAUSTED", "QUOTA_EXHAUSTED", "-1")),
    both("500", error_response(500), ends("INTERNAL", "UPSTREAM_INTERNAL", "-1")),
    both("500, with a billable retry allowed", error_response(500),
         ends("INTERNAL", "UPSTREAM_INTERNAL", "-1", requests=2), billable_retries=1),
    both("RST before headers, with a billable retry allowed", (Reset(),),
         unavailable("UPSTREAM_RESET", "-1", requests=2), billable_retries=1),
    both("502", error_response(502), unavailable("UPSTREAM_BAD_GATEWAY", requests=3)),
    both("502 as a page", html_response(502, PAGE), unavailable("UPSTREAM_BAD_GATEWAY", requests=3)),
    both("503", error_response(503), unavailable("UPSTREAM_OVERLOADED", requests=3)),
    both("529", error_response(529), unavailable("UPSTREAM_OVERLOADED", requests=3)),
    both("520", html_response(520, PAGE), unavailable("UPSTREAM_EDGE_ERROR", requests=3)),
    both("522", html_response(522, PAGE), unavailable("UPSTREAM_EDGE_UNREACHABLE", requests=3)),
    both("526", html_response(526, PAGE), unavailable("UPSTREAM_EDGE_UNREACHABLE", "-1")),
    both("504", error_response(504), ends("DEADLINE_EXCEEDED", "UPSTREAM_GATEWAY_TIMEOUT", "-1")),
    both("524", html_response(524, PAGE), ends("DEADLINE_EXCEEDED", "UPSTREAM_GATEWAY_TIMEOUT", "-1")),
]  # fmt: skip


def limited(headers):
    return then_valid_response(error_response(429, headers=headers))


def then_valid_response(*responses):
    """These responses first, then valid ones; for unary calls and streams alike."""
    left = list(responses)
    return lambda received: left.pop(0) if left else valid_response(received)


def ok_after(attempts):
    return Ending(text="Hi", requests=attempts)


AT_ONCE = ends("RESOURCE_EXHAUSTED", "RATE_LIMITED", "-1")
DATE = "Wed, 21 Oct 2026 07:28:00 GMT"
RETRY_AFTERS = [
    ("seconds", {"Retry-After": "0.05"}, ok_after(2)),
    ("milliseconds", {"retry-after-ms": "50"}, ok_after(2)),
    ("a date, by the response's own clock", {"Retry-After": DATE, "Date": DATE}, ok_after(2)),
    ("a date that is past", {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, ok_after(2)),
    ("x-ratelimit-reset", {"x-ratelimit-reset": "0.05"}, ok_after(2)),
    ("garbage", {"Retry-After": "soon"}, ok_after(2)),
    ("a negative number", {"Retry-After": "-5"}, ok_after(2)),
    ("infinity", {"Retry-After": "1e999"}, ok_after(2)),
    ("not a number", {"Retry-After": "nan", "retry-after-ms": "NaN"}, ok_after(2)),
    ("nothing", {"Retry-After": ""}, ok_after(2)),
    ("longer than the longest delay", {"Retry-After": "1000"}, AT_ONCE),
    ("a year", {"Retry-After": "31536000"}, AT_ONCE),
    ("a date in a year", {"Retry-After": "Thu, 21 Oct 2027 07:28:00 GMT", "Date": DATE}, AT_ONCE),
    ("a number of 10 digits", {"Retry-After": "9" * 10}, AT_ONCE),
    ("a number of 32 digits", {"Retry-After": "9" * 32}, ok_after(2)),
]  # fmt: skip


@pytest.mark.parametrize("row", [*CONNECTIONS, *STREAMS, *BODIES, *STATUSES], ids=lambda row: row.fault)
async def test_upstream(row, stage, table):
    """The upstream's script ends the call as the table expects."""
    async with stage(row.script, **row.options) as scene:
        seen = [await scene.ask(method) for method in row.methods]
        sent = max(one.bytes_sent for one in scene.upstream.request_log.requests)

    table(row.fault, row.ending, *seen)
    assert sent < 2**23


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("spelling", "headers", "ending"), RETRY_AFTERS, ids=[spelling for spelling, *_ in RETRY_AFTERS]
)
async def test_429_with_a_delay(spelling, headers, ending, method, stage, table):
    """A valid delay is waited for if it fits, else the call fails at once; an invalid one is ignored."""
    async with stage(limited(headers), after="another/model") as scene:
        seen = await scene.ask(method)

    table(f"429, Retry-After as {spelling} ({method})", ending, seen)


async def test_connection_refused(stage, table):
    """Nothing reached the upstream, so the call is retried, and the caller may retry later."""
    with refusing_port() as port:
        unused = f"http://127.0.0.1:{port}/v1"
        async with stage(base_url=unused, attempts_are_requests=False) as scene:
            seen = [await scene.ask(method) for method in METHODS]

    table("connection refused", unavailable("UPSTREAM_CONNECT_FAILED", requests=0), *seen)
    assert [3] * 2 == [record["attempts"] for record in scene.app.records()]


async def test_no_such_name(stage, table, monkeypatch):
    """A name that does not resolve has its own reason."""

    def unknown(*_rest, **_options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async with stage(base_url="http://nobody.invalid/v1", attempts_are_requests=False) as scene:
        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        seen = [await scene.ask(method) for method in METHODS]

    table("no such name", unavailable("UPSTREAM_DNS_FAILED", requests=0), *seen)


async def test_a_silent_name_server(stage, table, monkeypatch):
    """The resolver's thread cannot be cancelled, but the caller's deadline still applies."""
    release = threading.Event()
    real = socket.getaddrinfo

    def silent(host, *rest, **options):
        if host == "slow.example":
            release.wait(10)
        return real("127.0.0.1", *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    async with stage(base_url="http://slow.example:1/v1", attempts_are_requests=False) as scene:
        began = scene.begin("Complete", metadata=grpc_timeout(2000))
        seen = await scene.ended(began)
        release.set()

    table("the name server is silent", ends("DEADLINE_EXCEEDED", "CALLER_DEADLINE", requests=0), seen)


async def test_tls_handshake_hangs(stage, table):
    """The TLS handshake counts as connecting, which has its own timeout."""
    async with stage(
        on_connect=(Stall(),), scheme="https", connect_timeout_s=0.2, attempts_are_requests=False
    ) as scene:
        seen = [await scene.ask(method) for method in METHODS]

    table("TCP accepted, TLS handshake hangs", unavailable("UPSTREAM_CONNECT_TIMEOUT", requests=0), *seen)


async def test_plain_text_instead_of_tls(stage, table):
    """A TLS failure is not retried: it would repeat."""
    plain = (Send(b"HTTP/1.1 400 no\r\n\r\n"), Stall())
    async with stage(on_connect=plain, scheme="https", attempts_are_requests=False) as scene:
        seen = [await scene.ask(method) for method in METHODS]

    table("plain text instead of TLS", unavailable("UPSTREAM_TLS_FAILED", "-1", requests=0), *seen)


@pytest.mark.skipif(OPENSSL is None, reason="needs the openssl command")
async def test_unknown_authority(stage, table, tmp_path):
    """An untrusted certificate fails the call before the key is sent."""
    tls = make_certificate(tmp_path).server_context()
    async with stage(tls=tls, attempts_are_requests=False) as scene:
        seen = [await scene.ask(method) for method in METHODS]

    table(
        "a certificate of an unknown authority", unavailable("UPSTREAM_TLS_FAILED", "-1", requests=0), *seen
    )


@pytest.mark.parametrize("end", [Fin(), Reset()], ids=["FIN", "RST"])
@pytest.mark.parametrize("method", METHODS)
async def test_reused_idle_connection(end, method, stage, table):
    """If the peer closes a reused connection without a byte, the request is sent on a new one at once."""

    def script(received):
        first_on_it = len(scene.upstream.request_log.connections[received.connection].requests) == 1
        return valid_response(received) if first_on_it else (end,)

    async with stage(script, attempts_are_requests=False, max_retries=0) as scene:
        assert OK == await scene.ask(method)
        seen = await scene.ask(method)

    table(f"reused idle connection closed as we send ({type(end).__name__}, {method})", ok_after(2), seen)
    assert {1} == {record["attempts"] for record in scene.app.records()}


@pytest.mark.parametrize(
    "after",
    [event(chunk_json("foreign")), chunk(b"\n\n\n"), b"HTTP/1.1 200 ok\r\n\r\n"],
    ids=["an event", "lines", "a response"],
)
async def test_bytes_after_done(after, stage, table):
    """Bytes after the end mark reach neither this call nor the next one."""
    end = chunk(b"") if after.startswith(b"HTTP") else b""
    steps = (stream_start(chunk_json(), chunk_json("", "stop"), DONE), Send(end + after))
    async with stage(always(steps)) as scene:
        seen = [await scene.ask("StreamComplete") for _ in range(3)]

    table("bytes after [DONE]", OK, *seen)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirect(status, stage, table):
    """A redirect is not followed, so the key is sent to no other server."""
    async with ScriptedUpstream(valid_response) as elsewhere:
        script = always(http_response(status, b"", {"Location": elsewhere.base_url + "/chat/completions"}))
        async with stage(script) as scene:
            seen = [await scene.ask(method) for method in METHODS]

    table(f"{status} to another place", ends("INTERNAL", "UPSTREAM_UNEXPECTED_STATUS", "-1"), *seen)
    assert 0 == len(elsewhere.request_log.connections)


@pytest.mark.parametrize("coding", [{"Content-Encoding": "gzip"}, {}], ids=["declared", "undeclared"])
@pytest.mark.parametrize("method", METHODS)
async def test_gzip_bomb(coding, method, stage, table):
    """64 MB of zeros in 64 KB are not unpacked."""
    bomb = gzip.compress(bytes(2**26))
    kind = "application/json" if method == "Complete" else "text/event-stream"
    async with stage(always(http_response(200, bomb, {"Content-Type": kind, **coding}))) as scene:
        with peak_growth_mib() as growth:
            seen = await scene.ask(method)
            grown = growth()

    undeclared = MALFORMED if method == "Complete" else CUT
    expected = TOO_LARGE if coding else undeclared
    table(f"gzip bomb, {'declared' if coding else 'undeclared'} ({method})", f"{expected}, peak below 16 MiB",
          f"{seen}, peak {grown:.0f} MiB", holds=seen == expected and grown < 16)  # fmt: skip


TEXT = "a\u2028b\u0085c\x0cd “quoted” \\ 🐟 e\u0301 ß"
ODD_TEXTS = [
    ("one byte at a time", (Pieces(sse_head() + event(chunk_json(TEXT).encode()) + event(chunk_json("", "stop")) + event(DONE) + chunk(b"")),), TEXT),
    ("U+2028, U+0085 and form feed, not escaped", (stream_start(chunk_json().replace("Hi", "a\u2028b\u0085c")), *sse([chunk_json("", "stop"), DONE])[1:]), "a\u2028b\u0085c"),
    ("surrogates in two halves", (stream_start(chunk_json().replace("Hi", "\\ud83d"), chunk_json().replace("Hi", "\\udc1f")), *sse([chunk_json("", "stop"), DONE])[1:]), "\U0001f41f"),
    ("a lone surrogate", (stream_start(chunk_json().replace("Hi", "a\\ud83d b")), *sse([chunk_json("", "stop"), DONE])[1:]), "a\ufffd b"),
    ("CR for line ends", (Send(sse_head()), Pieces(chunk((f"data: {chunk_json()}\r\rdata: " + chunk_json("", "stop") + "\r\rdata: [DONE]\r\r").encode()) + chunk(b""))), "Hi"),
    ("CRLF in two writes", (Send(sse_head()), Pieces(chunk((f"data: {chunk_json()}\r\n\r\ndata: " + chunk_json("", "stop") + "\r\n\r\ndata: [DONE]\r\n\r\n").encode()) + chunk(b""))), "Hi"),
    ("a byte order mark", (Send(sse_head() + chunk(b"\xef\xbb\xbf") + event(chunk_json())), *sse([chunk_json("", "stop"), DONE])[1:]), "Hi"),
    ("comments, other fields, no space after the colon", (Send(sse_head() + chunk(f": hello\nid: 7\nretry: 1\ndata:{chunk_json()}\n\n".encode())), *sse([chunk_json("", "stop"), DONE])[1:]), "Hi"),
    ("data in several lines", (Send(sse_head() + chunk(("data: " + chunk_json().replace(", ", ",\ndata: ") + "\n\n").encode())), *sse([chunk_json("", "stop"), DONE])[1:]), "Hi"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "steps", "text"), ODD_TEXTS, ids=[form for form, *_ in ODD_TEXTS])
async def test_text(form, steps, text, stage, table):
    """The text is the same however the stream is cut and framed."""
    async with stage(always(steps)) as scene:
        seen = await scene.ask("StreamComplete")

    table(f"text: {form}", Ending(text=text), seen)


@pytest.mark.parametrize(
    ("text", "repaired"),
    [(b"a\xff\xfeb", "a\ufffd\ufffdb"), (b"a\xf0\x9f\x90", "a\ufffd")],
    ids=["noise", "half a character"],
)
async def test_invalid_utf_8(text, repaired, stage, table):
    """Invalid UTF-8 becomes U+FFFD, as in a browser; the rest of the text is unchanged."""
    body = b'{"id":"o","choices":[{"index":0,"finish_reason":"stop","message":{"content":"' + text + b'"}}]}'
    async with stage(always(http_response(200, body, JSON))) as scene:
        seen = await scene.ask("Complete")
        in_a_stream = chunk_json("x").encode().replace(b'"x"', b'"' + text + b'"')
        scene.upstream.script = always((stream_start(in_a_stream), *sse([chunk_json("", "stop"), DONE])[1:]))
        streamed = await scene.ask("StreamComplete")

    table("invalid UTF-8 in a text", Ending(text=repaired), seen, streamed)


ODD_NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "-" + "9" * 400, "1e400", "0.1e-9999"]


@pytest.mark.parametrize("number", ODD_NUMBERS, ids=lambda number: number[:9])
async def test_odd_numbers(number, stage, table):
    """An unusual number in any field is dropped or makes the response malformed; it never passes on."""
    bodies = [
        completion(created="@"),
        completion(usage={"prompt_tokens": "@", "completion_tokens": 1, "total_tokens": 2}),
        completion(choices=[{**completion()["choices"][0], "seed": "@"}]),
        completion(choices=[{**completion()["choices"][0], "index": "@"}]),
        completion(
            choices=[{**completion()["choices"][0], "logprobs": {"tokens": ["a"], "token_logprobs": ["@"]}}]
        ),
    ]
    async with stage() as scene:
        seen = []
        for body in bodies:
            data = json.dumps(body).replace('"@"', number).encode()
            scene.upstream.script = lambda received, data=data: (
                sse([data.replace(b'"message"', b'"delta"'), DONE])
                if wants_stream(received)
                else http_response(200, data, JSON)
            )
            for method in METHODS:
                call = scene.begin(method)
                seen.append(await scene.ended(call))

    allowed = {(OK.code, OK.reason), (MALFORMED.code, MALFORMED.reason)}
    table(f"the number {number[:9]} in any field", "OK without it, or MALFORMED",
          *seen, holds={(one.code, one.reason) for one in seen} <= allowed)  # fmt: skip


@pytest.mark.parametrize("share", [0.3, 1.0])
async def test_5xx_flapping(share, stage, table):
    """Retries rescue some calls within the budget; if every request fails, most calls are not sent."""
    chance, calls = random.Random(3), 100
    async with stage(
        lambda received: error_response(503) if chance.random() < share else valid_response(received), random_source=random.Random(5).random,
        after="another/model",
    ) as scene:  # fmt: skip
        seen = [
            one
            for _ in range(calls // 10)
            for one in await asyncio.gather(*(scene.ask("Complete") for _ in range(10)))
        ]
        sent = len(scene.upstream.request_log.requests)

    succeeded = sum(one.code == "OK" for one in seen)
    assert {"OK", "UNAVAILABLE"} >= {one.code for one in seen}
    bound = calls * 1.1 + 10
    expected = (
        f"at least 85% OK, at most {bound:.0f} requests" if share < 1 else f"at most {calls // 2} requests"
    )
    table(f"{share:.0%} of requests answered with 503", expected, f"{succeeded / calls:.0%} OK, {sent} requests",
          holds=succeeded >= 0.85 * calls and sent <= bound if share < 1 else sent <= calls // 2)  # fmt: skip
