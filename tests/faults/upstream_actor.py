"""The upstream of a run: runs each call's script, and reports afterwards what it sent.

Every piece of text names its call, its attempt and its own number, so that comparing texts reveals a
byte of another call or an old attempt, and a repeated piece.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass, field

from faults.history import RequestSeen
from faults.plan import in_outage, planned
from faults.responses import chunk_json
from support import openai
from support.scripted_upstream import Request
from support.upstream_script import (
    Fin,
    FinLater,
    Pause,
    Pieces,
    Reset,
    Response,
    Send,
    Stall,
    chunk,
    head,
    json_response,
    sse_head,
)

CLOSES_LATER = "closes when idle"
FILLING = "x" * 8000
JSON = {"Content-Type": "application/json"}
CALL_ID = re.compile(r"(\d+)-(\d+)")


def compact(text):
    """A text with its filling abbreviated."""
    return text.replace(FILLING, "~")


@dataclass(kw_only=True)
class Acting:
    """One request, and what its script sends: the byte at which each piece of its text is complete."""

    request: Request
    script: str
    ends_at_once: bool
    """Whether its connection was reused and is closed without a byte."""
    steps: list = field(default_factory=list)
    ends_at: list = field(default_factory=list)
    texts: list = field(default_factory=list)
    bytes_total: int = 0
    is_complete: bool = False

    def add(self, data, text="", step=None):
        """Add a step that sends; `text` is what a caller may have received after it."""
        self.bytes_total += len(data)
        self.steps.append(step or Send(data))
        if text:
            self.ends_at.append(self.bytes_total)
            self.texts.append(compact(text))

    def seen(self, connection):
        request = self.request
        # A connection that is closed during a write still delivers that piece.
        pieces = bisect_right(self.ends_at, request.bytes_sent) + self.ends_at_once
        return RequestSeen(
            id=request.headers["x-request-id"],
            script=self.script,
            received_s=request.received_at,
            answered_s=request.completed_at,
            closed_s=connection.closed_at,
            sent="".join(self.texts[:pieces]),
            whole=self.is_complete and request.bytes_sent >= self.bytes_total,
            replaced=self.ends_at_once and not request.bytes_sent,
        )


class UpstreamActor:
    """Pass `script` to a `ScriptedUpstream`, and set `upstream` to it."""

    def __init__(self, seed, actions=None):
        self._seed = seed
        self._actions = actions
        self._acted = []
        self._attempts = {}
        self._closing = set()
        self.upstream = None

    def script(self, request) -> Response:
        call = planned(self._seed, int(CALL_ID.fullmatch(request.headers["x-request-id"])[2]), self._actions)
        attempt = self._attempts[call.id] = self._attempts.get(call.id, 0) + 1
        name = "status 503" if in_outage(self._seed, call.number, attempt) else call.script
        reused = len(self.upstream.request_log.connections[request.connection].requests) > 1
        ends_at_once = request.connection in self._closing or (reused and name in AT_ONCE)
        acting = Acting(request=request, script=name, ends_at_once=ends_at_once)
        if name == CLOSES_LATER:
            self._closing.add(request.connection)
        texts = [f"{call.id}.{attempt}.{number} " for number in range(call.pieces)]
        (_stream if call.stream else _unary)(acting, name, texts)
        self._acted.append(acting)
        return acting.steps

    def requests(self):
        connections = self.upstream.request_log.connections
        return [acting.seen(connections[acting.request.connection]) for acting in self._acted]


AT_ONCE = {"closed at once": Fin(), "reset at once": Reset()}


def _common(acting, name):
    """The scripts that are the same for unary responses and streams."""
    match name.split():
        case ["status", number]:
            _status(acting, int(number))
        case ["never", "answers"]:
            acting.steps.append(Stall())
        case ["closed" | "reset", "at", "once"]:
            acting.steps.append(AT_ONCE[name])
        case ["no", "HTTP"]:
            acting.add(b"SSH-2.0-OpenSSH\r\n\r\n")
            acting.steps.append(Fin())
        case _:
            return False
    return True


def _status(acting, number):
    headers = {"retry-after-ms": "20"} if number == 429 else None
    for step in json_response(number, {"error": {"message": "no", "type": "x"}}, headers):
        acting.add(step.data)


def _unary(acting, name, texts):
    if _common(acting, name):
        return
    text = "".join(texts)
    body = openai.dumps(openai.completion(text))
    top = head(200, {**JSON, "Content-Length": len(body)})
    half = len(body) // 2
    match name:
        case "no JSON":
            acting.add(head(200, {**JSON, "Content-Length": 2}) + b"{[")
        case "malformed":
            acting.add(top + body.replace(b'"choices"', b'"choice5"'))
        case "cut" | "reset":
            acting.add(top + body[:half])
            acting.steps.append(Fin() if name == "cut" else Reset())
        case "silent":
            acting.add(top + body[:half])
            acting.steps.append(Stall())
        case "drips":
            acting.add(top)
            for byte in body:
                acting.add(bytes((byte,)))
                acting.steps.append(Pause(0.05))
        case "slow":
            acting.add(top + body[:half])
            acting.steps.append(Pause(0.1))
            acting.add(body[half:], text)
            acting.is_complete = True
        case "one byte at a time":
            acting.add(top + body, text, Pieces(top + body))
            acting.is_complete = True
        case _:
            acting.add(top + body, text)
            acting.is_complete = True
            _closes_when_idle(acting, name)


def _stream(acting, name, texts):
    if _common(acting, name):
        return
    chunked = name != "until the connection ends"
    top = sse_head() if chunked else head(200, {"Content-Type": "text/event-stream", "Connection": "close"})

    def event(data):
        framed = b"data: %s\n\n" % data.encode()
        return chunk(framed) if chunked else framed

    end = event(chunk_json("", "stop")) + event("[DONE]")
    acting.add(top)
    if name in BEFORE_TEXT:
        BEFORE_TEXT[name](acting)
        return
    for number, text in enumerate(texts):
        _send_text(acting, name, event, text)
        if number == len(texts) // 2 and _middle(acting, name, event):
            return
    acting.is_complete = True
    last = {
        "no end mark": event(chunk_json("", "stop")),
        "after the end mark": end + event(chunk_json("foreign ")),
    }.get(name, end)
    acting.add(last + (chunk(b"") if chunked else b""))
    if not chunked:
        acting.steps.append(Fin())
    _closes_when_idle(acting, name)


def _send_text(acting, name, event, text):
    """Send one piece of text."""
    match name:
        case "flood":
            for _ in range(100):
                acting.add(event(chunk_json(text + FILLING)), text + FILLING)
        case "one byte at a time":
            acting.add(event(chunk_json(text)), text, Pieces(event(chunk_json(text))))
        case "slow" | "drips":
            acting.add(event(chunk_json(text)), text)
            acting.steps.append(Pause(0.02))
        case _:
            acting.add(event(chunk_json(text)), text)


def _closes_when_idle(acting, name):
    """Close the connection soon after its response, maybe while the next request is on its way."""
    if name == CLOSES_LATER:
        acting.steps.append(FinLater(0.02))


BEFORE_TEXT = {
    "error first": lambda acting: acting.add(
        chunk(b'data: {"error": {"message": "busy", "code": 503}}\n\n') + chunk(b"")
    ),
    "silent at first": lambda acting: acting.steps.append(Stall()),
}


def _middle(acting, name, event):
    """Run the script's event in the middle of a stream; returns whether it ended the stream."""
    match name:
        case "cut" | "reset":
            acting.steps += [Pause(0.01), Fin() if name == "cut" else Reset()]
        case "silent":
            acting.steps.append(Stall())
        case "malformed" | "no JSON":
            acting.add(event("{nonsense"))
            acting.steps.append(Stall())
        case "error in the stream":
            acting.add(event('{"error": {"message": "busy", "code": 503}}') + chunk(b""))
        case "comments":
            acting.add(chunk(b": keep-alive\n\n") * 3)
            return False
        case _:
            return False
    return True
