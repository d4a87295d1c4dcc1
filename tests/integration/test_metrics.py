"""`/metrics` of the real service: which metrics it has, whether counts add up, and what it never holds."""

import asyncio
import time
import urllib.request
from contextlib import asynccontextmanager

import pytest
import trustme
from grpc import aio

from support import openai
from support.app import CANARY_KEY, CANARY_PROMPT, failing, grpc_timeout, request, running_app
from support.collector import traced_app
from support.http_client import running_http
from support.ports import refusing_port
from support.scraping import OPENMETRICS, scraped
from support.scripted_upstream import ScriptedUpstream, always
from support.tenants import Keys, bearer, now_of
from support.tls import Folder, Pair, credentials
from support.tokens import AUDIENCE, ISSUER, running_issuer
from support.upstream_script import json_response
from support.waiting import eventually
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.definitions import DEFINITIONS

LAG_COUNT = "togetherchat_event_loop_lag_seconds_count"
CALLER_KEY = "tgp_v1_canary_of_a_caller_0123456789"
ONLY_WITH_WORKERS = {names.WORKERS, names.WORKER_RESTARTS}
SENT_BY_THE_PROVIDER = {names.UPSTREAM_RATE_LIMIT, names.UPSTREAM_RATE_LIMIT_UPDATED}
OPTIONAL = {
    names.AUDIT_LINES_DROPPED,
    names.TRACE_SPANS,
    names.QUOTA_RESERVATIONS,
    names.QUOTA_RESERVATIONS_LEAKED,
    names.TENANT_BUDGET_USED,
    names.USAGE_LEDGER_ROWS,
    names.USAGE_LEDGER_LOST_ROWS,
    names.USAGE_LEDGER_UP,
    names.USAGE_LEDGER_LAG,
    names.USAGE_LEDGER_SPILLED_ROWS,
    names.REDIS_UP,
    names.FILE_STALE,
    names.JWKS_UP,
    names.API_KEY_NOT_AFTER,
    names.TLS_CERTIFICATE_NOT_AFTER,
}


def names_in(page):
    """The metrics of a page with their kinds and labels, as the definitions have them."""
    found = {}
    for family in page.families:
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels if label != "le"}
        found[name] = (family.type, labels)
    return found


async def mixed(app):
    """Make calls that end quickly in every way; return their number."""
    chat = app.chat
    calls = 0
    for model in ("sandbox/fast", "openai/gpt-oss-120b", "sandbox/error-503", "sandbox/error-429-x1"):
        for text in ("hello", CANARY_PROMPT):
            await asyncio.gather(chat.Complete(request(text, model=model)), return_exceptions=True)
            calls += 1
    for model in ("sandbox/fast", "sandbox/cut-stream", "sandbox/error-500"):
        await asyncio.gather(*[read(chat.StreamComplete(request(model=model)))], return_exceptions=True)
        calls += 1
    call = chat.StreamComplete(request(model="sandbox/stall-after-3"))
    await call.read()
    call.cancel()
    await failing(chat.Complete(request(model="sandbox/stall-after-3"), metadata=grpc_timeout(200)))
    await failing(chat.Complete(request(model="")))
    return calls + 3


async def read(call):
    return [event async for event in call]


async def when_idle(app):
    await eventually(lambda: app.app.in_flight == 0)
    return await scraped(app.addresses.admin)


@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
async def test_a_server_exports_the_defined_metrics(accept):
    """Every name with its kind and labels, except those of workers, the provider and optional parts."""
    async with running_http(max_retries=1, max_queued_calls=1, sandbox_tokens_per_second=0) as http:
        await mixed(http.app)
        await http.complete(model="openai/gpt-oss-120b")
        await when_idle(http.app)
        page = await scraped(http.app.addresses.admin, accept)
    exported = names_in(page)
    exported.setdefault(names.WORKER_RESTARTS, ("counter", set()))

    missing = set(DEFINITIONS) - set(exported)
    assert missing <= ONLY_WITH_WORKERS | SENT_BY_THE_PROVIDER | OPTIONAL | {names.ADMISSION_REJECTED}
    assert {name: (DEFINITIONS[name].kind, set(DEFINITIONS[name].labels)) for name in exported} == exported


@asynccontextmanager
async def with_everything(tmp_path):
    """A service with keys, JWTs, tenants, TLS and traces, and a Redis address at which nothing listens."""
    keys = Keys(tmp_path / "keys")
    tenants = tmp_path / "tenants.toml"
    tenants.write_text("[tenants.team]\nrequests_per_minute = 60\n", encoding="utf-8")
    pair = Pair(trustme.CA())
    key = keys.create("team", "--expires", "2099-01-01")
    tls = Folder(tmp_path).put(pair).settings()
    limits = {"api_keys_file": str(keys.path), "tenants_file": str(tenants)}
    jwt = {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}
    with refusing_port() as port:
        limits["redis_url"] = f"redis://127.0.0.1:{port}"
        async with (
            running_issuer() as issuer,
            traced_app(
                http_listen="127.0.0.1:0",
                sandbox_tokens_per_second=0,
                jwt_jwks_url=issuer.url,
                usage_database=f"sqlite:///{tmp_path / 'usage.sqlite'}",
                **jwt,
                **limits,
                **tls,
            ) as (app, _),
        ):
            async with aio.secure_channel(app.addresses.grpc, credentials(pair)) as channel:
                chat = service_grpc.ChatServiceStub(channel)
                await chat.Complete(request(model="sandbox/fast"), metadata=bearer(key))
            # The service counts a span once the collector has responded, so the collector has it earlier.
            await eventually(lambda: app.metrics.counters[names.TRACE_SPANS, "exported"]() == 2)
            yield app


async def test_every_callback_has_a_definition_of_its_kind(tmp_path):
    """A part that registers a gauge or a counter uses a defined name, with one value for each label."""
    async with with_everything(tmp_path) as app:
        registered = {"gauge": set(app.metrics.gauges), "counter": set(app.metrics.counters)}

    for kind, keys in registered.items():
        for name, *labels in keys:
            definition = DEFINITIONS[name]
            assert (kind, len(definition.labels)) == (definition.kind, len(labels)), name


async def test_optional_parts_have_metrics(tmp_path):
    """Spans, the Redis of the quotas, the keys of JWTs, the used API keys, and the TLS certificate."""
    async with with_everything(tmp_path) as app:
        page = await scraped(app.addresses.admin)

    assert {("made",): 2, ("exported",): 2, ("lost",): 0} == page.samples(names.TRACE_SPANS)
    assert {(): 0} == page.samples(names.REDIS_UP)
    assert {(): 1} == page.samples(names.JWKS_UP)
    assert {(): now_of("2099-01-01T00:00:00+00:00")} == page.samples(names.API_KEY_NOT_AFTER)
    assert page.value(names.TLS_CERTIFICATE_NOT_AFTER) > time.time()


async def test_counts_add_up():
    """After calls that ended in all ways, all are counted, none is in flight, and attempts match the log."""
    async with running_app(max_retries=1, sandbox_tokens_per_second=0) as app:
        calls = await mixed(app)
        page = await when_idle(app)
    records = app.records()

    assert calls == len(records) == page.value(names.CALLS)
    assert calls == page.value(names.TENANT_CALLS)
    assert calls == page.value("togetherchat_call_duration_seconds_count")
    assert sum(line["attempts"] for line in records) == page.value(names.UPSTREAM_ATTEMPTS)
    assert sum(max(0, line["attempts"] - 1) for line in records) == page.value(names.UPSTREAM_RETRIES) > 0
    for field, kind in (("prompt_tokens", "input"), ("completion_tokens", "output")):
        logged = sum(line.get(field, 0) for line in records)
        assert logged == page.value(names.TOKENS, kind=kind) > 0
    for name in (names.CALLS_IN_FLIGHT, names.CALLS_QUEUED, names.UPSTREAM_REQUESTS_IN_FLIGHT):
        assert {(): 0} == page.samples(name)
    assert 0 == page.value(names.UPSTREAM_CONNECTIONS, state="active")
    by_code = {}
    for line in records:
        by_code[line["code"]] = by_code.get(line["code"], 0) + 1
    assert by_code == {code: page.value(names.CALLS, code=code) for code in by_code}


async def test_the_cost_is_counted_in_dollars():
    """A model of the catalog has a price, and appears by its name."""
    async with running_app(sandbox_tokens_per_second=0) as app:
        answer = await app.chat.Complete(request(model="openai/gpt-oss-120b"))
        page = await when_idle(app)

    assert answer.usage.cost_nano_usd > 0
    assert pytest.approx(answer.usage.cost_nano_usd / 1e9) == page.value(
        names.COST_USD, model="openai/gpt-oss-120b"
    )


async def test_callers_cannot_make_series():
    """Any number of unknown models is one series."""
    async with running_app(sandbox_tokens_per_second=0) as app:
        for number in range(20):
            await app.chat.Complete(request(model=f"made-up/{number}"))
        page = await when_idle(app)

    assert {("OK", "other", "none"): 20} == page.samples(names.TENANT_CALLS)
    assert "made-up" not in page.text


async def test_the_rate_limits_of_the_provider_are_metrics():
    """Its headers by model, with the time of the update."""
    answer = json_response(
        200,
        openai.completion(),
        {"x-ratelimit-limit": 600, "x-ratelimit-remaining": 599, "x-tokenlimit-remaining": 9000},
    )
    async with (
        ScriptedUpstream(always(answer)) as upstream,
        running_app(upstream.base_url, wall_clock=lambda: 1_800_000_000.0) as app,
    ):
        await app.chat.Complete(request(model="openai/gpt-oss-120b"))
        page = await when_idle(app)

    assert {
        ("ratelimit-limit", "openai/gpt-oss-120b"): 600,
        ("ratelimit-remaining", "openai/gpt-oss-120b"): 599,
        ("tokenlimit-remaining", "openai/gpt-oss-120b"): 9000,
    } == page.samples(names.UPSTREAM_RATE_LIMIT)
    assert {("openai/gpt-oss-120b",): 1_800_000_000} == page.samples(names.UPSTREAM_RATE_LIMIT_UPDATED)


async def test_the_page_holds_no_key_prompt_or_completion():
    """Neither the service's nor a caller's, however the call ended."""
    async with running_http(upstream_credentials="caller-then-server", sandbox_tokens_per_second=0) as http:
        app = http.app
        keys = [("authorization", f"Bearer {CALLER_KEY}"), ("x-request-id", "canary-request-id")]
        await mixed(app)
        answer = await app.chat.Complete(request(f"echo: {CANARY_PROMPT}"), metadata=keys)
        await app.chat.Complete(request(model="canary/model"), metadata=keys)
        await http.client.post("/v1/chat/completions?canary", json={"model": "canary", "messages": "canary"})
        await http.client.get("/v1/models/canary", headers={"authorization": "Bearer canary"})
        await http.client.get("/v1/canary")
        await when_idle(app)
        pages = [(await scraped(app.addresses.admin, accept)).text for accept in ("", OPENMETRICS)]

    assert CANARY_PROMPT == answer.choices[0].message.content[0].text
    for page in pages:
        for secret in (CANARY_KEY, CALLER_KEY, CANARY_PROMPT, "canary", "127.0.0.1"):
            assert secret not in page


async def test_gauges_follow_a_call():
    """A stream in progress is one call, one request and one connection; after it, nothing is in use."""
    async with running_app() as app:
        call = app.chat.StreamComplete(request(model="sandbox/stall-after-3"))
        await call.read()
        page = await scraped(app.addresses.admin)
        call.cancel()
        after = await when_idle(app)

    for name in (names.CALLS_IN_FLIGHT, names.UPSTREAM_REQUESTS_IN_FLIGHT):
        assert ({(): 1}, {(): 0}) == (page.samples(name), after.samples(name))
    active = [one.value(names.UPSTREAM_CONNECTIONS, state="active") for one in (page, after)]
    assert [1, 0] == active
    assert {(): 0} == page.samples(names.CALLS_QUEUED)
    assert page.value(names.ASYNCIO_TASKS) > after.value(names.ASYNCIO_TASKS) > 0
    assert after.value(names.PYTHON_ALLOCATED_BLOCKS) > 0


async def test_an_idle_connection_is_counted():
    """After a call the connection returns to the pool."""
    async with running_app() as app:
        await app.chat.Complete(request(model="sandbox/fast"))
        page = await when_idle(app)

    assert 1 == page.value(names.UPSTREAM_CONNECTIONS, state="idle")


async def test_opened_connections_are_counted():
    """A second call takes the idle connection and opens none."""
    async with running_app() as app:
        for _ in range(2):
            await app.chat.Complete(request(model="sandbox/fast"))
            page = await when_idle(app)

    assert 1 == page.value(names.UPSTREAM_CONNECTIONS_OPENED)


async def test_the_process_and_the_event_loop_are_measured():
    """Memory, open files, CPU time, and the lag of the event loop."""
    async with running_app() as app:
        async with asyncio.timeout(60):
            while not (page := await scraped(app.addresses.admin)).value(LAG_COUNT):  # noqa: ASYNC110  over HTTP
                await asyncio.sleep(0.05)

    for name in (
        names.PROCESS_RESIDENT_MEMORY,
        names.PROCESS_VIRTUAL_MEMORY,
        names.PROCESS_OPEN_FDS,
        names.PROCESS_MAX_FDS,
        names.PROCESS_CPU,
        names.PROCESS_START_TIME,
    ):
        assert page.value(name) > 0, name
    assert 1 == page.value(names.READY)
    assert {("0.0.0",)} == {key[1:] for key in page.samples(names.BUILD_INFO)}


async def test_the_admin_port_lists_the_metrics_path():
    """A 404 names it, and HEAD returns its length."""

    def fetch(path, method):
        url = f"http://{app.addresses.admin}{path}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10) as page:
                return page.status, page.headers["content-length"], page.read()
        except urllib.error.HTTPError as error:
            return error.code, None, error.read()

    async with running_app() as app:
        head = await asyncio.to_thread(fetch, "/metrics", "HEAD")
        not_found = await asyncio.to_thread(fetch, "/stats", "GET")

    assert (200, b"") == (head[0], head[2])
    assert int(head[1]) > 1000
    assert b"/version, /metrics" in not_found[2]
