"""`/metrics` of the real service: what is there, whether the books balance, what is never there."""

import asyncio
import re
import urllib.request
from contextlib import asynccontextmanager

import pytest
import trustme
from grpc import aio

from support.app import CANARY_KEY, CANARY_PROMPT, failing, request, running_app, within
from support.collector import traced_app
from support.http_client import running_door
from support.ports import refusing_port
from support.scraping import OPENMETRICS, scraped
from support.scripted_upstream import ScriptedUpstream, always
from support.tenants import Keys, bearer
from support.tls import Folder, Pair, credentials
from support.upstream_script import json_answer
from support.waiting import eventually
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.collector import GAUGES, TOTALS
from togetherchat_server.telemetry.metrics.definitions import DEFINITIONS

LAG_COUNT = "togetherchat_event_loop_lag_seconds_count"
CALLER_KEY = "tgp_v1_canary_of_a_caller_0123456789"
WITH_WORKERS_ALONE = {names.WORKERS, names.RESTARTS}
TOLD_BY_THE_PROVIDER = {names.LIMIT, names.LIMIT_TOLD}
WHERE_IT_IS_ASKED_FOR = {names.SPANS, names.QUOTAS_APART, names.CERTIFICATE_LEFT}
OF_PRICED_MODELS = {names.COST}


def names_in(page):
    """The names and labels of the families on a page, as the table has them."""
    found = {}
    for family in page.families:
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels if label != "le"}
        found[name] = (family.type, labels)
    return found


async def mixed(app):
    """Calls that end in every way that takes no time; how many were begun."""
    chat = app.chat
    begun = 0
    for model in ("sandbox/fast", "openai/gpt-oss-120b", "sandbox/error-503", "sandbox/error-429-x1"):
        for text in ("hello", CANARY_PROMPT):
            await asyncio.gather(chat.Complete(request(text, model=model)), return_exceptions=True)
            begun += 1
    for model in ("sandbox/fast", "sandbox/cut-stream", "sandbox/error-500"):
        await asyncio.gather(*[read(chat.StreamComplete(request(model=model)))], return_exceptions=True)
        begun += 1
    call = chat.StreamComplete(request(model="sandbox/stall-after-3"))
    await call.read()
    call.cancel()
    await failing(chat.Complete(request(model="sandbox/stall-after-3"), metadata=within(200)))
    await failing(chat.Complete(request(model="")))
    return begun + 3


async def read(call):
    return [event async for event in call]


async def at_rest(app):
    await eventually(lambda: app.app.in_flight == 0)
    return await scraped(app.addresses.admin)


@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
async def test_what_is_exported_is_what_the_table_says(accept):
    """Every name, its kind and its labels; what is missing belongs to workers or to the provider."""
    async with running_door(max_retries=1, max_queued_calls=1, sandbox_tokens_per_second=0) as door:
        await mixed(door.app)
        await door.complete(model="openai/gpt-oss-120b")
        await at_rest(door.app)
        page = await scraped(door.app.addresses.admin, accept)
    exported = names_in(page)
    exported.setdefault(names.RESTARTS, ("counter", set()))

    missing = set(DEFINITIONS) - set(exported)
    assert missing <= WITH_WORKERS_ALONE | TOLD_BY_THE_PROVIDER | WHERE_IT_IS_ASKED_FOR | {names.REFUSED}
    assert {name: (DEFINITIONS[name].kind, set(DEFINITIONS[name].labels)) for name in exported} == exported


@asynccontextmanager
async def with_everything(tmp_path):
    """A service in which nothing is left off, and no Redis at the address of the one that it is to ask."""
    keys = Keys(tmp_path / "keys")
    tenants = tmp_path / "tenants.toml"
    tenants.write_text("[tenants.team]\nrequests_per_minute = 60\n", encoding="utf-8")
    pair = Pair(trustme.CA())
    key = keys.create("team")
    tls = Folder(tmp_path).put(pair).settings()
    limits = {"api_keys_file": str(keys.path), "tenants_file": str(tenants)}
    with refusing_port() as nowhere:
        limits["redis_url"] = f"redis://127.0.0.1:{nowhere}"
        async with traced_app(http_listen="127.0.0.1:0", sandbox_tokens_per_second=0, **limits, **tls) as (
            app,
            _,
        ):
            async with aio.secure_channel(app.addresses.grpc, credentials(pair)) as channel:
                chat = service_grpc.ChatServiceStub(channel)
                await chat.Complete(request(model="sandbox/fast"), metadata=bearer(key))
            # The service counts spans once the collector has answered, so the collector has them earlier.
            await eventually(lambda: app.gauges["trace_spans_exported"]() == 2)
            yield app


async def test_every_gauge_of_vars_is_a_metric(tmp_path):
    """Whoever counts something new for `/vars` says how it is called here; limits are told apart by model."""
    async with with_everything(tmp_path) as app:
        counted = set(app.gauges)

    assert set(GAUGES) | set(TOTALS) == {
        name for name in counted if not name.startswith(("upstream_ratelimit", "upstream_limits"))
    }


async def test_what_is_asked_for_is_measured(tmp_path):
    """Spans, the Redis of the limits, the certificate: with workers `/vars` is nobody's, and this all there is."""
    async with with_everything(tmp_path) as app:
        page = await scraped(app.addresses.admin)
        left_s = app.gauges["tls_certificate_expires_s"]()

    assert {("made",): 2, ("exported",): 2, ("lost",): 0} == page.samples(names.SPANS)
    assert {(): 1} == page.samples(names.QUOTAS_APART)
    assert page.value(names.CERTIFICATE_LEFT) == pytest.approx(left_s, abs=60)
    assert left_s > 0


async def test_the_books_balance():
    """After calls that ended in all ways: as many as begun, none in flight, and each attempt one request."""
    async with running_app(max_retries=1, sandbox_tokens_per_second=0) as app:
        begun = await mixed(app)
        page = await at_rest(app)
    records = app.records()

    assert begun == len(records) == page.value(names.CALLS)
    assert begun == page.value(names.TENANT_CALLS)
    assert begun == page.value("togetherchat_call_duration_seconds_count")
    assert sum(line["attempts"] for line in records) == page.value(names.ATTEMPTS)
    assert sum(max(0, line["attempts"] - 1) for line in records) == page.value(names.RETRIES) > 0
    for kind, field in (("input", "prompt_tokens"), ("output", "completion_tokens")):
        assert sum(line.get(field, 0) for line in records) == page.value(names.TOKENS, kind=kind) > 0
    for name in (names.IN_FLIGHT, names.WAITING, names.UPSTREAM_IN_FLIGHT):
        assert {(): 0} == page.samples(name)
    assert {("leased",): 0} == {
        k: v for k, v in page.samples(names.UPSTREAM_CONNECTIONS).items() if "leased" in k
    }
    by_code = {}
    for line in records:
        by_code[line["code"]] = by_code.get(line["code"], 0) + 1
    assert by_code == {code: page.value(names.CALLS, code=code) for code in by_code}


async def test_what_costs_is_counted_in_dollars():
    """A model of the catalogue has a price and its own name."""
    async with running_app(sandbox_tokens_per_second=0) as app:
        answer = await app.chat.Complete(request(model="openai/gpt-oss-120b"))
        page = await at_rest(app)

    assert answer.usage.cost_nano_usd > 0
    assert pytest.approx(answer.usage.cost_nano_usd / 1e9) == page.value(
        names.COST, model="openai/gpt-oss-120b"
    )


async def test_callers_cannot_make_series():
    """A hundred models that nobody knows are one."""
    async with running_app(sandbox_tokens_per_second=0) as app:
        for number in range(20):
            await app.chat.Complete(request(model=f"made-up/{number}"))
        page = await at_rest(app)

    assert {("OK", "other", "none"): 20} == page.samples(names.TENANT_CALLS)
    assert "made-up" not in page.text


async def test_the_limits_of_the_provider_are_metrics():
    """Its headers, by the model that was asked for, with the time at which they came."""
    message = {"role": "assistant", "content": "hi"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer = json_answer(
        200,
        {"id": "oid-1", "created": 1, "model": "m", "choices": [choice]},
        {"x-ratelimit-limit": 600, "x-ratelimit-remaining": 599, "x-tokenlimit-remaining": 9000},
    )
    async with (
        ScriptedUpstream(always(answer)) as upstream,
        running_app(upstream.base_url, wall_clock=lambda: 1_800_000_000.0) as app,
    ):
        await app.chat.Complete(request(model="openai/gpt-oss-120b"))
        page = await at_rest(app)

    assert {
        ("ratelimit-limit", "openai/gpt-oss-120b"): 600,
        ("ratelimit-remaining", "openai/gpt-oss-120b"): 599,
        ("tokenlimit-remaining", "openai/gpt-oss-120b"): 9000,
    } == page.samples(names.LIMIT)
    assert {("openai/gpt-oss-120b",): 1_800_000_000} == page.samples(names.LIMIT_TOLD)


async def test_no_key_no_prompt_and_no_answer_is_on_the_page():
    """Neither ours nor a caller's, whatever the call came to."""
    async with running_door(upstream_credentials="caller-then-server", sandbox_tokens_per_second=0) as door:
        app = door.app
        keys = [("authorization", f"Bearer {CALLER_KEY}"), ("x-request-id", "canary-request-id")]
        await mixed(app)
        answer = await app.chat.Complete(request(f"echo: {CANARY_PROMPT}"), metadata=keys)
        await app.chat.Complete(request(model="canary/model"), metadata=keys)
        await door.client.post("/v1/chat/completions?canary", json={"model": "canary", "messages": "canary"})
        await door.client.get("/v1/models/canary", headers={"authorization": "Bearer canary"})
        await door.client.get("/v1/canary")
        await at_rest(app)
        pages = [(await scraped(app.addresses.admin, accept)).text for accept in ("", OPENMETRICS)]

    assert CANARY_PROMPT == answer.choices[0].message.content[0].text
    for page in pages:
        for secret in (CANARY_KEY, CALLER_KEY, CANARY_PROMPT, "canary", "127.0.0.1"):
            assert secret not in page


async def test_a_call_in_flight_is_shown():
    """Gauges are as things are at the scrape."""
    async with running_app() as app:
        call = app.chat.StreamComplete(request(model="sandbox/stall-after-3"))
        await call.read()
        page = await scraped(app.addresses.admin)
        call.cancel()
        after = await at_rest(app)

    for name in (names.IN_FLIGHT, names.UPSTREAM_IN_FLIGHT):
        assert ({(): 1}, {(): 0}) == (page.samples(name), after.samples(name))


async def test_the_process_and_the_loop_are_measured():
    """Memory, files and CPU are some, and the loop has been asked how late it is."""
    async with running_app() as app:
        async with asyncio.timeout(60):
            while not (page := await scraped(app.addresses.admin)).value(LAG_COUNT):  # noqa: ASYNC110  over HTTP
                await asyncio.sleep(0.05)

    for name in (names.RESIDENT, names.VIRTUAL, names.FILES, names.FILES_MAX, names.CPU, names.STARTED):
        assert page.value(name) > 0, name
    assert 1 == page.value(names.READY)
    assert {("0.0.0",)} == {key[1:] for key in page.samples(names.BUILD)}


async def test_the_admin_port_says_that_there_are_metrics():
    """Whoever guesses a path is told, and HEAD has the length."""

    def fetch(path, method):
        url = f"http://{app.addresses.admin}{path}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10) as page:
                return page.status, page.headers["content-length"], page.read()
        except urllib.error.HTTPError as error:
            return error.code, None, error.read()

    async with running_app() as app:
        head = await asyncio.to_thread(fetch, "/metrics", "HEAD")
        guessed = await asyncio.to_thread(fetch, "/stats", "GET")

    assert (200, b"") == (head[0], head[2])
    assert int(head[1]) > 1000
    assert re.search(rb"/vars, /metrics", guessed[2])
