"""The sandbox over real connections: addresses, keys, answers, failures."""

import asyncio
import json
import logging

import aiohttp
import httpx
import pytest

from togetherchat_sandbox import Ended, Sandbox, SandboxSettings
from togetherchat_sandbox.misbehaviour import NAMES

CANARY = "canary-4f1d"
TEXT = "U+2028 \u2028 and 👩‍🚀"


def question(text="echo: one two three four", model="some/model", **fields):
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


async def ask(client, *arguments, headers=None, **fields):
    return await client.post("/chat/completions", json=question(*arguments, **fields), headers=headers)


def events_of(text):
    return [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: {")]


def text_of(events):
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])


async def test_a_whole_answer(client):
    """A question is answered, and the answer says that it is simulated."""
    answer = await ask(client, f"echo: {TEXT}")
    assert (200, "application/json", "sandbox", TEXT, "sandbox") == (
        answer.status_code,
        answer.headers["content-type"],
        answer.headers["x-upstream"],
        answer.json()["choices"][0]["message"]["content"],
        answer.json()["system_fingerprint"],
    )


async def test_a_stream(client):
    """The same words come as a stream, up to the marker."""
    answer = await ask(client, f"echo: {TEXT}", stream=True)
    assert ("text/event-stream;charset=utf-8", TEXT, True) == (
        answer.headers["content-type"],
        text_of(events_of(answer.content.decode())),
        answer.text.endswith("\n\ndata: [DONE]\n\n"),
    )


async def test_the_same_seed_gives_the_same_bytes():
    """Two sandboxes with one seed and one clock answer the same requests with the same bytes."""
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
    """A bare array with real ids and the names that misbehave, priced per million tokens."""
    models = {model["id"]: model for model in (await client.get("/models")).json()}
    assert {"openai/gpt-oss-120b", "sandbox/cut-stream", "sandbox/error-429-x2"} <= set(models)
    assert {"hourly": 0, "input": 0.15, "output": 0.6, "base": 0, "finetune": 0} == models[
        "openai/gpt-oss-120b"
    ]["pricing"]


async def test_dedicated_models(client):
    """Nobody has dedicated models here."""
    assert [] == (await client.get("/models", params={"dedicated": "true"})).json()


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/chat/completions"), ("POST", "/models"), ("GET", "/responses")]
)
async def test_other_addresses(client, method, path):
    """What is not there is a 404 in the API's own form."""
    answer = await client.request(method, path)
    assert (404, "not_found") == (answer.status_code, answer.json()["error"]["code"])


@pytest.mark.parametrize(
    ("status", "code", "key"), [(401, "invalid_api_key", "invalid"), (402, None, "broke"), (200, None, "any")]
)
async def test_keys(client, status, code, key):
    """Two keys are refused; every other one will do."""
    answer = await ask(client, headers={"authorization": f"Bearer {key}"})
    assert (status, code) == (answer.status_code, answer.json().get("error", {}).get("code"))


async def test_a_request_that_is_too_large():
    """A body over the bound is refused with 413."""
    async with (
        Sandbox(SandboxSettings(request_bytes_max=1_000)) as sandbox,
        httpx.AsyncClient(base_url=sandbox.base_url, verify=False) as client,
    ):
        assert 413 == (await ask(client, "x" * 1_000)).status_code


async def test_the_page_of_names(sandbox, client):
    """`GET /sandbox` lists every name with its sentence."""
    page = (await client.get(sandbox.base_url.removesuffix("/v1") + "/sandbox")).json()
    assert [row.says for row in NAMES] == [name["does"] for name in page["names"]]


async def test_the_ledger_over_http(sandbox, client):
    """The ledger is read over HTTP, filtered by the caller's id, and does not list its own readers."""
    await ask(client, model="a/b", headers={"x-request-id": "mine"})
    await ask(client, model="c/d", stream=True)
    address = sandbox.base_url.removesuffix("/v1") + "/sandbox/ledger"
    everything, mine = [(await client.get(address, params=query)).json() for query in ({}, {"id": "mine"})]
    assert ([("a/b", False, "complete", 4), ("c/d", True, "complete", 4)], ["a/b"]) == (
        [
            (entry["model"], entry["stream"], entry["ended"], entry["tokens_sent"])
            for entry in everything["requests"]
        ],
        [entry["model"] for entry in mine["requests"]],
    )


async def test_n_failures_then_success(client):
    """The first two of the same question fail; another question fails on its own account."""
    statuses = [(await ask(client, model="sandbox/error-503-x2")).status_code for _ in range(4)]
    other = await ask(client, "echo: other", model="sandbox/error-503-x2")
    assert ([503, 503, 200, 200], 503) == (statuses, other.status_code)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["cut-stream", "cut-body", "reset"])
async def test_broken_connections(sandbox, client, name, stream):
    """The client sees a broken connection, and the ledger says who broke it."""
    with pytest.raises(httpx.TransportError):
        await ask(client, model=f"sandbox/{name}", stream=stream)
    await until_closed(sandbox)
    (entry,) = sandbox.ledger.entries()
    assert Ended.ABORTED_BY_SANDBOX is entry.ended


@pytest.mark.parametrize("name", ["cut-stream", "cut-body"])
async def test_what_came_before_the_break_arrives(sandbox, name):
    """The three tokens before the break reach the client."""
    received = bytearray()
    async with aiohttp.ClientSession() as session:
        body = question(model=f"sandbox/{name}", stream=True)
        async with session.post(f"{sandbox.base_url}/chat/completions", json=body) as answer:
            with pytest.raises(aiohttp.ClientError):
                await read_into(received, answer.content)
    assert "one two three" == text_of(events_of(received.decode()))


async def test_a_redirect_that_is_followed_shows(sandbox, client):
    """Who follows the redirect asks for an address that the ledger lists."""
    await client.post("/chat/completions", json=question(model="sandbox/redirect"), follow_redirects=True)
    assert ["/v1/chat/completions", "/v1/redirected"] == [entry.path for entry in sandbox.ledger.entries()]


async def test_a_long_stream_without_waiting(client):
    """Ten thousand tokens come whole."""
    events = events_of((await ask(client, "hi", model="sandbox/long", stream=True)).text)
    assert 10_000 == events[-1]["usage"]["completion_tokens"] == len(events) - 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "row", [row for row in NAMES if row.name not in {"slow", "huge-body"}], ids=lambda row: row.name
)
async def test_every_name_ends_as_it_should(client, caplog, row, stream):
    """A reply, a broken connection, or silence: no name crashes the sandbox, and nothing is logged."""
    silent = row.name == "stall" or row.name.startswith("stall-after")
    if silent:
        with pytest.raises(httpx.ReadTimeout):
            await client.post(
                "/chat/completions", json=question(model=row.model, stream=stream), timeout=0.05
            )
    else:
        try:
            await ask(client, model=row.model, stream=stream)
        except (httpx.RemoteProtocolError, httpx.ReadError):
            assert row.name in {"reset", "cut-body", "cut-stream"}
    assert (200, []) == (
        (await ask(client)).status_code,
        [record for record in caplog.records if record.levelno >= logging.WARNING],
    )


async def test_keys_and_words_are_nowhere(sandbox, client, caplog, capfd):
    """Neither the ledger nor a log holds a key or a word of a message, even when a request cannot be read."""
    caplog.set_level(logging.DEBUG)
    await ask(client, f"echo: {CANARY}", headers={"authorization": f"Bearer {CANARY}"})
    await client.post("/chat/completions", content=f'{{"{CANARY}'.encode())
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sandbox.base_url.split(":")[2][:-3]))
    writer.write(f"POST /v1 HTTP/1.1\r\nauthorization: Bearer {CANARY}\x00\r\nbroken\r\n\r\n".encode())
    assert b"400" in (await reader.read())[:40]
    writer.close()
    ledger = json.dumps(sandbox.ledger.told())
    captured = capfd.readouterr()
    ours = [record.getMessage() + str(record.exc_info) for record in caplog.records]
    assert CANARY not in "".join((ledger, captured.out, captured.err, *ours))


async def read_into(received, content):
    while data := await content.readany():
        received += data


async def until_closed(sandbox):
    """Wait until every connection of the ledger is closed."""
    async with asyncio.timeout(20):
        while any(entry.closed_at is None for entry in sandbox.ledger.entries()):  # noqa: ASYNC110  the ledger tells nobody
            await asyncio.sleep(0.005)
