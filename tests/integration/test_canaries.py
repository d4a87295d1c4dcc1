"""Nothing that anybody said, and no key, comes out where an operator looks: one word, planted everywhere, looked for
everywhere.

It is in keys, prompts, tools and their arguments, in headers, in answers, and in what the provider says when it fails;
through both doors, in calls that are answered, that fail and that are refused. It may be in none of the log in both its
forms, the metrics, the spans, the pages of the admin port and the console's figures, nor in what libraries log. Callers
hear it in answers alone: not in a status, not in a header. Three things that callers write are passed on by
design, and hold no word here: a request's id, `tracestate`, and the name of a model.
"""

import asyncio
import base64
import json
import logging
from contextlib import asynccontextmanager

import httpx
import pytest
from grpc import aio

from support.app import collect, request
from support.collector import traced_app
from support.http_client import COMPLETIONS, ask
from support.scraping import OPENMETRICS, scraped
from support.scripted_upstream import ScriptedUpstream, always
from support.tenants import Keys
from support.upstream_script import answer, html_answer, json_answer, sse
from support.waiting import eventually
from togetherchat.v1 import chat_pb2 as chat

WORD = "kanarie"
FORMS = (WORD, WORD.upper(), base64.b64encode(WORD.encode()).decode().rstrip("="), WORD.encode().hex())
SERVICE_KEY = f"tgp_v1_{WORD}_of_the_service"
CALLER_KEY = f"tgp_v1_{WORD}_of_a_caller"
TEXT = f"{WORD}, and whatever else was said"
ARGUMENTS = json.dumps({"query": TEXT})
SCHEMA = json.dumps({"type": "object", "description": TEXT, "properties": {WORD: {"type": "string"}}})

# What the provider says. In all that is no answer it repeats what it should not.
CALLED = {"id": "call-1", "type": "function", "function": {"name": "look_up", "arguments": ARGUMENTS}}
SAID = {"role": "assistant", "content": TEXT, "reasoning": TEXT, "tool_calls": [{"index": 0, **CALLED}]}
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
HEADERS = {"x-told": TEXT, "set-cookie": f"session={WORD}"}
WHOLE = json_answer(
    200,
    {"id": "a", "usage": USAGE, "choices": [{"index": 0, "finish_reason": "stop", "message": SAID}]},
    HEADERS,
)
PIECE = json.dumps({"id": "a", "choices": [{"index": 0, "delta": SAID, "finish_reason": None}]})
LAST = json.dumps(
    {"id": "a", "usage": USAGE, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
)
STREAM = sse([PIECE, LAST, "[DONE]"])
LEAK = {
    "error": {
        "message": f"{TEXT}; {SERVICE_KEY}; {CALLER_KEY}",
        "type": SERVICE_KEY,
        "code": CALLER_KEY,
        "param": TEXT,
    }
}
# Of a mistake of the caller's the provider's words are passed on, without keys.
KEYS_LEAK = {"error": {"message": f"bad: {SERVICE_KEY}; {CALLER_KEY}"}}
FAILURES = {
    "400": json_answer(400, KEYS_LEAK, HEADERS),
    "401": json_answer(401, LEAK, HEADERS),
    "404": json_answer(404, KEYS_LEAK, HEADERS),
    "429": json_answer(429, LEAK, HEADERS),
    "500": json_answer(500, LEAK, HEADERS),
    "page": html_answer(502, f"<html><title>{TEXT}</title>"),
    "no JSON": answer(200, TEXT.encode(), {"Content-Type": "application/json"}),
    "broken stream": sse([PIECE, TEXT, "[DONE]"]),
    "stream with an error": sse([PIECE, json.dumps(LEAK)]),
}

ALIVE = {
    "log": "UPSTREAM_STREAM_ERROR",
    "loggers": "togetherchat_server",
    "metrics": 'reason="UPSTREAM_MALFORMED_RESPONSE"',
    "OpenMetrics": "# EOF",
    "/vars": "calls_in_flight",
    "console": '"reasons"',
    "spans": "gen_ai.request.model",
}
"""Something that each place must hold."""
CLIENTS = ("httpcore.connection", "httpcore.http11")
"""Loggers of the callers of these tests."""


def asked(**changed):
    """A request with the word wherever there may be one."""
    messages = [
        chat.Message(role=chat.ROLE_SYSTEM, content=[chat.ContentPart(text=TEXT)]),
        chat.Message(role=chat.ROLE_USER, content=[chat.ContentPart(text=TEXT)], name=WORD),
        chat.Message(
            role=chat.ROLE_ASSISTANT,
            tool_calls=[
                chat.ToolCall(id="call-1", function=chat.FunctionCall(name="look_up", arguments=ARGUMENTS))
            ],
        ),
        chat.Message(role=chat.ROLE_TOOL, content=[chat.ContentPart(text=TEXT)], tool_call_id="call-1"),
    ]
    made = request(TEXT, **{"stop": [TEXT], "prompt_cache_key": WORD, **changed})
    made.messages.extend(messages)
    tool = chat.FunctionTool(name="look_up", description=TEXT, parameters_json=SCHEMA)
    made.tools.append(chat.Tool(function=tool))
    return made


def asked_over_http(**changed):
    function = {"name": "look_up", "description": TEXT, "parameters": json.loads(SCHEMA)}
    messages = [
        {"role": "system", "content": TEXT},
        {"role": "user", "content": TEXT, "name": WORD},
        {"role": "assistant", "content": TEXT, "tool_calls": [CALLED]},
        {"role": "tool", "content": TEXT, "tool_call_id": "call-1"},
    ]
    tools = [{"type": "function", "function": function}]
    return ask(messages=messages, tools=tools, stop=[TEXT], user=WORD, **changed)


class Stage:
    """A service whose callers say the word, and all that comes out of it."""

    def __init__(self, app, client, upstream, collector, keys):
        self.app = app
        self.client = client
        self.upstream = upstream
        self.collector = collector
        self.keys = keys
        self.own_key = {"authorization": keys["authorization"]}
        self.heard = []
        self.answers = []
        self.out = {}

    @property
    def headers(self):
        """What comes with every call beside a key; of an id of a caller's own only a fit one is taken."""
        return {
            "x-anything": TEXT,
            "cookie": f"session={WORD}",
            "baggage": f"user={WORD}",
            "traceparent": WORD,
            "x-request-id": f"no id: {WORD}",
            **self.keys,
        }

    async def over_grpc(self, script, made):
        """The call in both its ways."""
        self.upstream.script = always(script)
        metadata = [*self.headers.items(), ("x-anything-bin", TEXT.encode())]
        for method in ("Complete", "StreamComplete"):
            call = getattr(self.app.chat, method)(made, metadata=metadata)
            if method == "Complete":
                try:
                    self.answers.append(str(await call))
                except aio.AioRpcError:
                    self.heard.append(await call.details())
            else:
                events, failure = await collect(call)
                self.answers.extend(str(event) for event in events)
                self.heard.append(str(failure))
            self.heard += [repr(await call.initial_metadata()), repr(await call.trailing_metadata())]

    async def over_http(self, script, *, headers=(), **body):
        self.upstream.script = always(script)
        for stream in (False, True):
            content = body or {"json": asked_over_http(stream=stream)}
            response = await self.client.post(
                COMPLETIONS, headers={**self.headers, **dict(headers)}, **content
            )
            self.heard.append(repr(response.headers))
            if response.status_code == 200:
                self.answers.append(response.text)
            else:
                self.heard.append(response.text)

    async def over_a_socket(self, line, headers):
        """By hand: clients would refuse it, or log it themselves. What it hears is its own text in part."""
        host, _, port = self.app.addresses.http.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        lines = [line, "host: localhost", "connection: close", *(": ".join(one) for one in headers.items())]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        async with asyncio.timeout(20):
            heard = await reader.read()
        writer.close()
        assert heard.startswith(b"HTTP/1.1 ")

    async def look(self):
        """Everything that an operator may look at."""
        admin = self.app.addresses.admin
        async with httpx.AsyncClient(base_url=f"http://{admin}", trust_env=False) as pages:
            for path in ("/vars", "/healthz", "/readyz", "/version"):
                self.out[path] = (await pages.get(path)).text
        self.out["metrics"] = (await scraped(admin)).text
        self.out["OpenMetrics"] = (await scraped(admin, OPENMETRICS)).text
        figures = await self.client.get("/console/figures", headers=self.own_key)
        self.out["console"] = figures.text
        made = self.app.gauges["trace_spans_made"]
        await eventually(lambda: len(self.collector.spans) == made())
        self.out["spans"] = b"".join(self.collector.exports).decode("latin-1")


@asynccontextmanager
async def staged(tmp_path, form, callers):
    settings = {
        "log_format": form,
        "console": True,
        "http_listen": "127.0.0.1:0",
        "upstream_credentials": "caller-then-server",
    }
    keys = {"authorization": f"Bearer {CALLER_KEY}"}
    if callers == "tenants":
        file = Keys(tmp_path / "keys.json")
        settings["api_keys_file"] = str(file.path)
        keys = {"authorization": f"Bearer {file.create('a-team')}", "x-together-api-key": CALLER_KEY}
    async with (
        ScriptedUpstream(always(WHOLE)) as upstream,
        traced_app(upstream.base_url, key=SERVICE_KEY, **settings) as (app, collector),
        httpx.AsyncClient(base_url=f"http://{app.addresses.http}", trust_env=False, timeout=30) as client,
    ):
        yield Stage(app, client, upstream, collector, keys)


def found(text, *more):
    """Where the word is, or one of these, with what is around it."""
    places = ((form, text.find(form)) for form in (*FORMS, *more))
    return [text[max(0, at - 60) : at + 60] for _, at in places if at >= 0]


async def everything(stage):
    """Calls that are answered, that fail at the provider, and that are refused before they come to it."""
    await stage.over_grpc(WHOLE, asked())
    await stage.over_grpc(STREAM, asked())
    await stage.over_http(WHOLE)
    await stage.over_http(STREAM)
    for name, script in FAILURES.items():
        # Each a model of its own, so that the breaker lets all of them through.
        await stage.over_grpc(script, asked(model=f"grpc/{name.replace(' ', '-')}"))
        stage.upstream.script = always(script)
        await stage.over_http(script, json=asked_over_http(model=f"http/{name.replace(' ', '-')}"))
    await stage.over_grpc(WHOLE, asked(extra_body_json=f'{{"model": "{WORD}"}}', reasoning_effort=f"{WORD} "))
    await stage.over_http(WHOLE, json=asked_over_http(response_format={"type": WORD}))
    await stage.over_http(
        WHOLE, content=f'{{"messages": "{TEXT}", {WORD}', headers={"content-type": "application/json"}
    )
    for path in (
        f"/v1/{WORD}",
        f"/v1/chat/completions?{WORD}={WORD}",
        f"/v1/models?{WORD}",
    ):
        await stage.over_a_socket(f"GET {path} HTTP/1.1", stage.headers)
    await stage.over_a_socket("POST /v1/chat/completions HTTP/1.1", {WORD: f"{WORD}\x01"})
    await stage.over_a_socket(f"{WORD} / {WORD}", {})
    # Without a caller's key for the provider it is asked with the service's own.
    stage.keys = {name: key for name, key in stage.keys.items() if CALLER_KEY not in key}
    await stage.over_grpc(WHOLE, asked())
    await stage.over_http(FAILURES["401"])
    stage.keys = {"authorization": f"Basic {WORD}"}
    await stage.over_grpc(WHOLE, asked())
    await stage.over_http(WHOLE)


@pytest.mark.parametrize("callers", ["anyone", "tenants"])
@pytest.mark.parametrize("form", ["json", "text"])
async def test_the_word_comes_out_in_answers_alone(tmp_path, caplog, capfd, form, callers):
    """Operators see none of it, in no form; of callers those who are answered see what was answered."""
    caplog.set_level(logging.DEBUG)
    async with staged(tmp_path, form, callers) as stage:
        secrets = [key.removeprefix("Bearer ") for key in stage.keys.values()]
        await everything(stage)
        await stage.look()
    stage.out["log"] = stage.app.log.getvalue()
    stage.out["loggers"] = "\n".join(
        f"{record.name} {record.getMessage()}" for record in caplog.records if record.name not in CLIENTS
    )
    stage.out["streams"] = "".join(capfd.readouterr())

    assert {} == {name: places for name, text in stage.out.items() if (places := found(text, *secrets))}
    assert [] == [place for text in stage.heard for place in found(text, *secrets)]
    # What is looked at has something in it, and the word was there to come out.
    for name, part in ALIVE.items():
        assert part in stage.out[name]
    assert sum(WORD in text for text in stage.answers) >= 8
    asked_for = stage.upstream.ledger.requests
    assert any(WORD.encode() in request.body for request in asked_for)
    assert {f"Bearer {key}" for key in (SERVICE_KEY, CALLER_KEY)} == {
        request.headers["authorization"] for request in asked_for
    }
