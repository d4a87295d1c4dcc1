"""No text of callers or models and no key appears in any output for operators.

A canary word is in keys, prompts, tools and their arguments, headers, completions and provider errors. The tests
use both frontends, with calls that succeed, fail and are rejected. The word must not appear in either format of
the log, the audit log, the metrics, the spans, the admin pages, the console's metrics or the log lines of libraries.
Callers may receive it in completions only, not in a status or a header. Three values of callers are passed on by
design and do not contain the word: the request id, `tracestate` and the name of a model.
"""

import asyncio
import base64
import json
import logging
from contextlib import asynccontextmanager

import httpx
import pytest
from grpc import aio

from support import openai
from support.app import collect, request
from support.collector import traced_app
from support.http_client import COMPLETIONS, raw_caller, request_body
from support.scraping import OPENMETRICS, scraped
from support.scripted_upstream import ScriptedUpstream, always
from support.tenants import Keys
from support.upstream_script import html_response, http_response, json_response, sse
from support.waiting import eventually
from togetherchat.v1 import chat_pb2 as chat
from togetherchat_server.telemetry.metrics import definitions as names

WORD = "kanarie"
FORMS = (WORD, WORD.upper(), base64.b64encode(WORD.encode()).decode().rstrip("="), WORD.encode().hex())
SERVICE_KEY = f"tgp_v1_{WORD}_of_the_service"
CALLER_KEY = f"tgp_v1_{WORD}_of_a_caller"
TEXT = f"{WORD}, and other text"
ARGUMENTS = json.dumps({"query": TEXT})
SCHEMA = json.dumps({"type": "object", "description": TEXT, "properties": {WORD: {"type": "string"}}})

# The provider's responses. Its errors repeat the word.
CALLED = openai.tool_call("look_up", ARGUMENTS)
MESSAGE = {"role": "assistant", "content": TEXT, "reasoning": TEXT, "tool_calls": [CALLED]}
USAGE = openai.usage(5, 7)
HEADERS = {"x-told": TEXT, "set-cookie": f"session={WORD}"}
COMPLETION = json_response(200, openai.completion(choices=[openai.choice(MESSAGE)], usage=USAGE), HEADERS)
DELTA = openai.chunk(delta=MESSAGE)
LAST = openai.chunk(delta={}, finish_reason="stop", usage=USAGE)
STREAM = sse([DELTA, LAST, openai.DONE])
LEAK = openai.error(f"{TEXT}; {SERVICE_KEY}; {CALLER_KEY}", type=SERVICE_KEY, code=CALLER_KEY, param=TEXT)
# For a caller's mistake, the provider's message is passed on, without keys.
KEYS_LEAK = openai.error(f"bad: {SERVICE_KEY}; {CALLER_KEY}")
FAILURES = {
    "400": json_response(400, KEYS_LEAK, HEADERS),
    "401": json_response(401, LEAK, HEADERS),
    "404": json_response(404, KEYS_LEAK, HEADERS),
    "429": json_response(429, LEAK, HEADERS),
    "500": json_response(500, LEAK, HEADERS),
    "page": html_response(502, f"<html><title>{TEXT}</title>"),
    "no JSON": http_response(200, TEXT.encode(), {"Content-Type": "application/json"}),
    "broken stream": sse([DELTA, TEXT, openai.DONE]),
    "stream with an error": sse([DELTA, LEAK]),
}

ALIVE = {
    "log": "UPSTREAM_STREAM_ERROR",
    "audit log": "credential_rejected",
    "loggers": "togetherchat_server",
    "metrics": 'reason="UPSTREAM_MALFORMED_RESPONSE"',
    "OpenMetrics": "# EOF",
    "/version": "togetherchat",
    "console": '"reasons"',
    "spans": "gen_ai.request.model",
}
"""Text that each output must contain."""
CLIENTS = ("httpcore.connection", "httpcore.http11")
"""Loggers of the clients in these tests."""


def grpc_request(**changed):
    """Return a request with the word in every field that can hold it."""
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


def http_request(**changed):
    function = {"name": "look_up", "description": TEXT, "parameters": json.loads(SCHEMA)}
    messages = [
        {"role": "system", "content": TEXT},
        {"role": "user", "content": TEXT, "name": WORD},
        {"role": "assistant", "content": TEXT, "tool_calls": [CALLED]},
        {"role": "tool", "content": TEXT, "tool_call_id": "call-1"},
    ]
    tools = [{"type": "function", "function": function}]
    return request_body(messages=messages, tools=tools, stop=[TEXT], user=WORD, **changed)


class Stage:
    """A service whose callers send the word, and all of its outputs."""

    def __init__(self, app, client, upstream, collector, keys, admin_key):
        self.app = app
        self.client = client
        self.upstream = upstream
        self.collector = collector
        self.keys = keys
        self.admin_key = {"authorization": admin_key}
        self.errors = []
        self.completions = []
        self.outputs = {}

    @property
    def headers(self):
        """The headers of every call. This request id is invalid, so it is not passed on."""
        return {
            "x-anything": TEXT,
            "cookie": f"session={WORD}",
            "baggage": f"user={WORD}",
            "traceparent": WORD,
            "x-request-id": f"no id: {WORD}",
            **self.keys,
        }

    async def over_grpc(self, script, made):
        """Send a unary call and a stream."""
        self.upstream.script = always(script)
        metadata = [*self.headers.items(), ("x-anything-bin", TEXT.encode())]
        for method in ("Complete", "StreamComplete"):
            call = getattr(self.app.chat, method)(made, metadata=metadata)
            if method == "Complete":
                try:
                    self.completions.append(str(await call))
                except aio.AioRpcError:
                    self.errors.append(await call.details())
            else:
                events, failure = await collect(call)
                self.completions.extend(str(event) for event in events)
                self.errors.append(str(failure))
            self.errors += [repr(await call.initial_metadata()), repr(await call.trailing_metadata())]

    async def over_http(self, script, *, headers=(), **body):
        self.upstream.script = always(script)
        for stream in (False, True):
            content = body or {"json": http_request(stream=stream)}
            response = await self.client.post(
                COMPLETIONS, headers={**self.headers, **dict(headers)}, **content
            )
            self.errors.append(repr(response.headers))
            if response.status_code == 200:
                self.completions.append(response.text)
            else:
                self.errors.append(response.text)

    async def over_a_socket(self, line, headers):
        """Send raw bytes, which clients would reject or log. The response repeats some of them."""
        lines = [line, "host: localhost", "connection: close", *(": ".join(pair) for pair in headers.items())]
        async with raw_caller(self.app.addresses.http) as caller, asyncio.timeout(20):
            await caller.send(("\r\n".join(lines) + "\r\n\r\n").encode())
            response = await caller.read_to_end()
        assert response.startswith(b"HTTP/1.1 ")

    async def collect_outputs(self):
        """Read every output for operators."""
        admin = self.app.addresses.admin
        async with httpx.AsyncClient(base_url=f"http://{admin}", trust_env=False) as pages:
            for path in ("/healthz", "/readyz", "/version"):
                self.outputs[path] = (await pages.get(path)).text
        self.outputs["metrics"] = (await scraped(admin)).text
        self.outputs["OpenMetrics"] = (await scraped(admin, OPENMETRICS)).text
        stats = await self.client.get("/console/stats", headers=self.admin_key)
        self.outputs["console"] = stats.text
        made = self.app.metrics.counters[names.TRACE_SPANS, "made"]
        await eventually(lambda: len(self.collector.spans) == made())
        self.outputs["spans"] = b"".join(self.collector.exports).decode("latin-1")


@asynccontextmanager
async def staged(tmp_path, form, callers):
    settings = {
        "log_format": form,
        "console": True,
        "http_listen": "127.0.0.1:0",
        "upstream_credentials": "caller-then-server",
        "audit_log": str(tmp_path / "audit.jsonl"),
    }
    keys = {"authorization": f"Bearer {CALLER_KEY}"}
    admin_key = keys["authorization"]
    if callers == "tenants":
        file = Keys(tmp_path / "keys.json")
        settings["api_keys_file"] = str(file.path)
        keys = {"authorization": f"Bearer {file.create('a-team')}", "x-together-api-key": CALLER_KEY}
        admin_key = f"Bearer {file.create('operators', '--scope', 'admin')}"
    async with (
        ScriptedUpstream(always(COMPLETION)) as upstream,
        traced_app(upstream.base_url, key=SERVICE_KEY, **settings) as (app, collector),
        httpx.AsyncClient(base_url=f"http://{app.addresses.http}", trust_env=False, timeout=30) as client,
    ):
        yield Stage(app, client, upstream, collector, keys, admin_key)


def excerpts(text, *more):
    """Return excerpts around each occurrence of the word, or of other texts."""
    positions = (text.find(form) for form in (*FORMS, *more))
    return [text[max(0, at - 60) : at + 60] for at in positions if at >= 0]


async def make_calls(stage):
    """Make calls that succeed, that fail at the provider, and that are rejected before they reach it."""
    await stage.over_grpc(COMPLETION, grpc_request())
    await stage.over_grpc(STREAM, grpc_request())
    await stage.over_http(COMPLETION)
    await stage.over_http(STREAM)
    for name, script in FAILURES.items():
        # Each has a model of its own, so that the adaptive throttle rejects none of them.
        await stage.over_grpc(script, grpc_request(model=f"grpc/{name.replace(' ', '-')}"))
        stage.upstream.script = always(script)
        await stage.over_http(script, json=http_request(model=f"http/{name.replace(' ', '-')}"))
    await stage.over_grpc(
        COMPLETION, grpc_request(extra_body_json=f'{{"model": "{WORD}"}}', reasoning_effort=f"{WORD} ")
    )
    await stage.over_http(COMPLETION, json=http_request(response_format={"type": WORD}))
    await stage.over_http(
        COMPLETION, content=f'{{"messages": "{TEXT}", {WORD}', headers={"content-type": "application/json"}
    )
    for path in (
        f"/v1/{WORD}",
        f"/v1/chat/completions?{WORD}={WORD}",
        f"/v1/models?{WORD}",
    ):
        await stage.over_a_socket(f"GET {path} HTTP/1.1", stage.headers)
    await stage.over_a_socket("POST /v1/chat/completions HTTP/1.1", {WORD: f"{WORD}\x01"})
    await stage.over_a_socket(f"{WORD} / {WORD}", {})
    # Without a caller's key, the service's own is sent to the provider.
    stage.keys = {name: key for name, key in stage.keys.items() if CALLER_KEY not in key}
    await stage.over_grpc(COMPLETION, grpc_request())
    await stage.over_http(FAILURES["401"])
    stage.keys = {"authorization": f"Basic {WORD}"}
    await stage.over_grpc(COMPLETION, grpc_request())
    await stage.over_http(COMPLETION)


@pytest.mark.parametrize("callers", ["anyone", "tenants"])
@pytest.mark.parametrize("form", ["json", "text"])
async def test_the_word_only_appears_in_completions(tmp_path, caplog, capfd, form, callers):
    """No output for operators contains the word in any form; callers receive it in completions only."""
    caplog.set_level(logging.DEBUG)
    async with staged(tmp_path, form, callers) as stage:
        sent_keys = (*stage.keys.values(), *stage.admin_key.values())
        secrets = [key.removeprefix("Bearer ") for key in sent_keys]
        await make_calls(stage)
        await stage.collect_outputs()
    stage.outputs["log"] = stage.app.log.getvalue()
    stage.outputs["audit log"] = (tmp_path / "audit.jsonl").read_text()
    stage.outputs["loggers"] = "\n".join(
        f"{record.name} {record.getMessage()}" for record in caplog.records if record.name not in CLIENTS
    )
    stage.outputs["streams"] = "".join(capfd.readouterr())

    assert {} == {name: found for name, text in stage.outputs.items() if (found := excerpts(text, *secrets))}
    assert [] == [excerpt for text in stage.errors for excerpt in excerpts(text, *secrets)]
    # The outputs are not empty, and the word could have appeared in them.
    for name, part in ALIVE.items():
        assert part in stage.outputs[name]
    assert sum(WORD in text for text in stage.completions) >= 8
    sent = stage.upstream.request_log.requests
    assert any(WORD.encode() in request.body for request in sent)
    assert {f"Bearer {key}" for key in (SERVICE_KEY, CALLER_KEY)} == {
        request.headers["authorization"] for request in sent
    }
