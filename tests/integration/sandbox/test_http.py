"""The sandbox over real connections: paths, keys, completions, faults."""

import asyncio
import json
import logging

import httpx
import pytest

from support.http_client import raw_caller
from togetherchat_sandbox import Ended, Sandbox, SandboxSettings
from togetherchat_sandbox.faults import SANDBOX_MODELS

CANARY = "canary-4f1d"
TEXT = "U+2028 \u2028 and 👩‍🚀"


def chat(text="echo: one two three four", model="some/model", **fields):
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


async def ask(client, *arguments, headers=None, **fields):
    return await client.post("/chat/completions", json=chat(*arguments, **fields), headers=headers)


def events_of(text):
    return [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: {")]


def text_of(events):
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])


async def test_a_unary_response(client):
    """A request gets a completion that is marked as simulated."""
    answer = await ask(client, f"echo: {TEXT}")
    assert (200, "application/json", "sandbox", TEXT, "sandbox") == (
        answer.status_code,
        answer.headers["content-type"],
        answer.headers["x-upstream"],
        answer.json()["choices"][0]["message"]["content"],
        answer.json()["system_fingerprint"],
    )


async def test_a_stream(client):
    """The same completion arrives as a stream that ends with the marker."""
    answer = await ask(client, f"echo: {TEXT}", stream=True)
    assert ("text/event-stream;charset=utf-8", TEXT, True) == (
        answer.headers["content-type"],
        text_of(events_of(answer.content.decode())),
        answer.text.endswith("\n\ndata: [DONE]\n\n"),
    )


async def test_the_same_seed_gives_the_same_bytes():
    """Two sandboxes with the same seed and clock send the same bytes for the same requests."""
    answers = []
    for _ in range(2):
        settings = SandboxSettings(seed=7, first_token_ms=0, tokens_per_second=0)
        async with (
            Sandbox(settings, wall_clock=lambda: 1_767_268_800) as sandbox,
            httpx.AsyncClient(base_url=sandbox.base_url, verify=False) as client,
        ):
            answers.append([(await ask(client, "hello", stream=stream)).content for stream in (False, True)])
    assert answers[0] == answers[1]


async def test_the_model_list(client):
    """The list is a bare array with real ids and the sandbox's ids, priced per million tokens."""
    models = {model["id"]: model for model in (await client.get("/models")).json()}
    assert {"openai/gpt-oss-120b", "sandbox/cut-stream", "sandbox/error-429-x2"} <= set(models)
    assert {"hourly": 0, "input": 0.15, "output": 0.6, "base": 0, "finetune": 0} == models[
        "openai/gpt-oss-120b"
    ]["pricing"]


async def test_dedicated_models(client):
    """The list of dedicated models is empty."""
    assert [] == (await client.get("/models", params={"dedicated": "true"})).json()


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/chat/completions"), ("POST", "/models"), ("GET", "/responses")]
)
async def test_unknown_paths(client, method, path):
    """An unknown path or method gets 404 in the API's own form."""
    answer = await client.request(method, path)
    assert (404, "not_found") == (answer.status_code, answer.json()["error"]["code"])


@pytest.mark.parametrize(
    ("status", "code", "key"), [(401, "invalid_api_key", "invalid"), (402, None, "broke"), (200, None, "any")]
)
async def test_keys(client, status, code, key):
    """Two keys are rejected; every other key is accepted."""
    answer = await ask(client, headers={"authorization": f"Bearer {key}"})
    assert (status, code) == (answer.status_code, answer.json().get("error", {}).get("code"))


async def test_an_offered_upgrade_is_ignored(client):
    """A request that offers h2c, as those of Java's HTTP client, is served over HTTP/1.1."""
    headers = {"connection": "upgrade, http2-settings", "upgrade": "h2c", "http2-settings": "AAMAAABk"}
    assert (200, "HTTP/1.1") == (
        (answer := await ask(client, headers=headers)).status_code,
        answer.http_version,
    )


async def test_a_request_that_is_too_large():
    """A body over the bound is rejected with 413."""
    async with (
        Sandbox(SandboxSettings(request_bytes_max=1_000)) as sandbox,
        httpx.AsyncClient(base_url=sandbox.base_url, verify=False) as client,
    ):
        assert 413 == (await ask(client, "x" * 1_000)).status_code


async def test_the_page_about_the_sandbox(sandbox, client):
    """`GET /sandbox` lists every model id with its description."""
    page = (await client.get(sandbox.base_url.removesuffix("/v1") + "/sandbox")).json()
    assert [row.description for row in SANDBOX_MODELS] == [
        each["description"] for each in page["sandbox_models"]
    ]


async def test_the_request_log_over_http(sandbox, client):
    """The request log is served over HTTP, filtered by the client's id; its own readers are not logged."""
    await ask(client, model="a/b", headers={"x-request-id": "mine"})
    await ask(client, model="c/d", stream=True)
    address = sandbox.base_url.removesuffix("/v1") + "/sandbox/request-log"
    everything, mine = [(await client.get(address, params=query)).json() for query in ({}, {"id": "mine"})]
    assert ([("a/b", False, "complete", 4), ("c/d", True, "complete", 4)], ["a/b"]) == (
        [
            (entry["model"], entry["stream"], entry["ended"], entry["tokens_sent"])
            for entry in everything["requests"]
        ],
        [entry["model"] for entry in mine["requests"]],
    )


async def test_the_bill_has_what_was_sent(sandbox, client):
    """By its own prices: completions in full, cut ones as far as they came, errors not at all."""
    whole = (await ask(client, model="moonshotai/Kimi-K3")).json()["usage"]
    with pytest.raises(httpx.RemoteProtocolError):
        await ask(client, model="sandbox/cut-body", stream=True)
    await ask(client, model="sandbox/error-500")
    bill = (await client.get(sandbox.base_url.removesuffix("/v1") + "/sandbox/bill")).json()

    kimi, cut = bill["models"]["moonshotai/Kimi-K3"], bill["models"]["sandbox/cut-body"]
    assert (1, whole["prompt_tokens"], whole["completion_tokens"]) == (
        kimi["requests"], kimi["input_tokens"], kimi["output_tokens"],
    )  # fmt: skip
    assert whole["prompt_tokens"] * 3000 + whole["completion_tokens"] * 15000 == kimi["nano_usd"]
    assert (1, 3) == (cut["requests"], cut["output_tokens"])
    assert cut["input_tokens"] * 200 + 3 * 600 == cut["nano_usd"]
    assert {"moonshotai/Kimi-K3", "sandbox/cut-body"} == set(bill["models"])
    assert kimi["nano_usd"] + cut["nano_usd"] == bill["nano_usd"]


async def test_n_failures_then_success(client):
    """The first two repeats of a request fail; another request has a count of its own."""
    statuses = [(await ask(client, model="sandbox/error-503-x2")).status_code for _ in range(4)]
    other = await ask(client, "echo: other", model="sandbox/error-503-x2")
    assert ([503, 503, 200, 200], 503) == (statuses, other.status_code)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["cut-stream", "cut-body", "reset"])
async def test_broken_connections(sandbox, client, name, stream):
    """The client gets a broken connection, and the request log attributes it to the sandbox."""
    with pytest.raises(httpx.TransportError):
        await ask(client, model=f"sandbox/{name}", stream=stream)
    await until_closed(sandbox)
    (entry,) = sandbox.request_log.entries()
    assert Ended.ABORTED_BY_SANDBOX is entry.ended


@pytest.mark.parametrize("name", ["cut-stream", "cut-body"])
async def test_tokens_before_the_break_arrive(client, name):
    """The three tokens before the break arrive at the client."""
    received = bytearray()
    body = chat(model=f"sandbox/{name}", stream=True)
    async with client.stream("POST", "/chat/completions", json=body) as answer:
        with pytest.raises(httpx.TransportError):
            await read_into(received, answer)
    assert "one two three" == text_of(events_of(received.decode()))


async def test_a_followed_redirect_is_logged(sandbox, client):
    """A client that follows the redirect requests a path that the request log lists."""
    await client.post("/chat/completions", json=chat(model="sandbox/redirect"), follow_redirects=True)
    assert ["/v1/chat/completions", "/v1/redirected"] == [
        entry.path for entry in sandbox.request_log.entries()
    ]


async def test_a_long_stream_without_waiting(client):
    """Ten thousand tokens arrive completely."""
    events = events_of((await ask(client, "hi", model="sandbox/long", stream=True)).text)
    assert 10_000 == events[-1]["usage"]["completion_tokens"] == len(events) - 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "row", [row for row in SANDBOX_MODELS if row.name not in {"slow", "huge-body"}], ids=lambda row: row.name
)
async def test_every_model_ends_as_described(client, caplog, row, stream):
    """No model crashes the sandbox or logs a warning, whether it replies, breaks off or stalls."""
    stalls = row.name == "stall" or row.name.startswith("stall-after")
    if stalls:
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/chat/completions", json=chat(model=row.model, stream=stream), timeout=0.05)
    else:
        try:
            await ask(client, model=row.model, stream=stream)
        except (httpx.RemoteProtocolError, httpx.ReadError):
            assert row.name in {"reset", "cut-body", "cut-stream"}
    assert (200, []) == (
        (await ask(client)).status_code,
        [record for record in caplog.records if record.levelno >= logging.WARNING],
    )


async def test_keys_and_messages_are_not_logged(sandbox, client, caplog, capfd):
    """No log contains a key or a word of a message, even when a request cannot be parsed."""
    caplog.set_level(logging.DEBUG)
    await ask(client, f"echo: {CANARY}", headers={"authorization": f"Bearer {CANARY}"})
    await client.post("/chat/completions", content=f'{{"{CANARY}'.encode())
    async with raw_caller(httpx.URL(sandbox.base_url).netloc.decode()) as caller:
        await caller.send(
            f"POST /v1 HTTP/1.1\r\nauthorization: Bearer {CANARY}\x00\r\nbroken\r\n\r\n".encode()
        )
        assert b"400" in (await caller.read_to_end())[:40]
    entries = json.dumps(sandbox.request_log.to_json())
    captured = capfd.readouterr()
    ours = [record.getMessage() + str(record.exc_info) for record in caplog.records]
    assert CANARY not in "".join((entries, captured.out, captured.err, *ours))


async def read_into(received, answer):
    async for data in answer.aiter_raw():
        received += data


async def until_closed(sandbox):
    """Wait until every connection of the request log is closed."""
    async with asyncio.timeout(20):
        while any(entry.closed_at is None for entry in sandbox.request_log.entries()):  # noqa: ASYNC110  the request log has no event to wait for
            await asyncio.sleep(0.005)
