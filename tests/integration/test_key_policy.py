"""The policy of an API key, through both frontends: scopes, models, networks, age, and its tenant's state."""

import asyncio
import hmac
import json
import re

import grpc
import pytest

from support import openai
from support.app import collect, failing, request
from support.command import REASONABLE_S
from support.http_client import COMPLETIONS, head, raw_caller, request_body, running_http
from support.scripted_upstream import ScriptedUpstream
from support.tenants import Keys, bearer
from support.upstream_script import json_response, paused_sse, sse
from support.waiting import eventually, poll
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.tenants.key_format import format_key, key_id_of

MODEL, OTHER = "openai/gpt-oss-120b", "zai-org/GLM-5.3"
RPC = "/togetherchat.v1.ChatService/"
DAY_S = 86_400
SERVED, DENIED, UNAUTHENTICATED = ("OK", 200), ("PERMISSION_DENIED", 403), ("UNAUTHENTICATED", 401)
DISABLED = "[tenants.acme]\ndisabled = true"


def answer(received):
    """List two models, and complete a request, as a stream if it asks for one."""
    if received.path == "/v1/models":
        return json_response(200, [openai.model(name) for name in (MODEL, OTHER)])
    body = json.loads(received.body)
    if body.get("stream"):
        return sse(openai.stream("Hi"))
    return json_response(200, openai.completion(model=body["model"], usage=openai.usage(1, 1)))


def streaming_until(released):
    """Return a script whose streams wait for the event."""
    return lambda received: answer(received) if received.path == "/v1/models" else paused_sse(released)


@pytest.fixture
async def provider():
    async with ScriptedUpstream(answer) as upstream:
        yield upstream


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path / "keys", today="2026-01-01T00:00:00+00:00")


@pytest.fixture
def tenants(tmp_path):
    path = tmp_path / "tenants.toml"
    path.write_text("")
    return path


@pytest.fixture
def serving(provider, keys, tenants):
    """Run the service with the API keys file and the tenants file."""

    def run(**settings):
        files = {"api_keys_file": str(keys.path), "tenants_file": str(tenants)}
        return running_http(provider.base_url, auth_failures_per_minute=0, **files, **settings)

    return run


class Caller:
    """A caller with a key, through both frontends of a service."""

    def __init__(self, http, key, **headers):
        self.http = http
        self.metadata = bearer(key, *headers.items())

    async def _over_grpc(self, call):
        """Return the code and the reason of a call."""
        try:
            await call
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"

    async def complete(self, **fields):
        chosen = {"model": MODEL, **fields}
        response = await self.http.client.post(
            COMPLETIONS, json=request_body(**chosen), headers=dict(self.metadata)
        )
        call = self.http.app.chat.Complete(request(**chosen), metadata=self.metadata)
        return await self._over_grpc(call), response.status_code

    async def stream(self, **fields):
        chosen = {"model": MODEL, **fields}
        response = await self.http.client.post(
            COMPLETIONS, json=request_body(stream=True, **chosen), headers=dict(self.metadata)
        )
        call = self.http.app.chat.StreamComplete(request(**chosen), metadata=self.metadata)
        _, failure = await collect(call)
        return failure.code.name if failure else "OK", response.status_code

    async def list_models(self):
        response = await self.http.client.get("/v1/models", headers=dict(self.metadata))
        call = self.http.app.chat.ListModels(service.ListModelsRequest(), metadata=self.metadata)
        return await self._over_grpc(call), response.status_code

    async def get_model(self, model=MODEL):
        response = await self.http.client.get(f"/v1/models/{model}", headers=dict(self.metadata))
        call = self.http.app.chat.GetModel(service.GetModelRequest(id=model), metadata=self.metadata)
        return await self._over_grpc(call), response.status_code

    async def every_method(self):
        """Return how a completion, a stream, the list of models and one model are answered."""
        return [await method() for method in (self.complete, self.stream, self.list_models, self.get_model)]


@pytest.mark.parametrize(
    ("words", "chats", "lists"),
    [
        ((), SERVED, SERVED),
        (("--scope", "chat"), SERVED, DENIED),
        (("--scope", "models"), DENIED, SERVED),
        (("--scope", "usage"), DENIED, DENIED),
        (("--scope", "admin"), DENIED, DENIED),
        (("--scope", "chat,models,admin"), SERVED, SERVED),
    ],
)
async def test_each_method_needs_its_scope(keys, serving, words, chats, lists):
    """Completions need `chat`, and the models need `models`. `admin` includes neither."""
    text = keys.create("acme", *words)
    async with serving() as http:
        assert [chats, chats, lists, lists] == await Caller(http, text).every_method()


@pytest.mark.parametrize(
    "case",
    [
        (("--scope", "models"), "", "the credential needs the scope `chat`"),
        (("--network", "192.0.2.0/24"), "", "key {id} must not be used from address 127.0.0.1"),
        ((), DISABLED, "tenant acme is disabled"),
    ],
)
async def test_a_caller_without_permission_is_rejected_before_its_message_is_read(
    keys, tenants, serving, case
):
    """Over gRPC the message is never sent; over HTTP the body is not waited for. Both have the reason."""
    words, table, message = case
    text = keys.create("acme", *words)
    tenants.write_text(table)
    async with serving() as http, raw_caller(http.address) as caller, asyncio.timeout(REASONABLE_S):
        streaming = http.app.channel.stream_stream(RPC + "StreamComplete")(metadata=bearer(text))
        failures = [
            await failing(http.app.channel.stream_unary(RPC + "Complete")(metadata=bearer(text))),
            await failing(streaming.read()),
        ]
        await caller.send(head("content-length: 1000000", f"authorization: Bearer {text}"))
        answered = await caller.read_head()
        (body_bytes,) = re.findall(rb"content-length: (\d+)", answered)
        body = json.loads(await caller.reader.readexactly(int(body_bytes)))
        records = await http.recorded(3)

    expected = message.format(id=key_id_of(text))
    assert [grpc.StatusCode.PERMISSION_DENIED] * 2 == [failure.code for failure in failures]
    assert ["CALLER_NOT_PERMITTED"] * 2 == [failure.info.reason for failure in failures]
    assert [expected] * 2 == [failure.message for failure in failures]
    assert (b"403", expected) == (answered.split(b" ", 2)[1], body["error"]["message"])
    assert {"CALLER_NOT_PERMITTED"} == {record["reason"] for record in records}
    assert {key_id_of(text)} == {record["key_id"] for record in records}
    assert not any(record["attempts"] for record in records)


async def test_a_key_is_limited_to_its_models(keys, serving):
    """Completions, streams and fallbacks; by id, alias and pattern. The error names the key and its models."""
    text = keys.create("acme", "--model", "fast", "--model", "mistralai/*")
    async with serving(alias={"fast": MODEL, "slow": OTHER}) as http:
        caller = Caller(http, text)
        served = [await caller.complete(model=name) for name in (MODEL, "fast", "mistralai/some")]
        served.append(await caller.stream())
        denied = [await caller.complete(model=name) for name in (OTHER, "slow")]
        denied += [await caller.stream(model=OTHER), await caller.complete(fallback_models=[OTHER])]
        failure = await failing(http.app.chat.Complete(request(model=OTHER), metadata=bearer(text)))

    assert [SERVED] * 4 == served
    assert [DENIED] * 4 == denied
    assert "MODEL_NOT_ALLOWED" == failure.info.reason
    message = f"key {key_id_of(text)} may not use model {OTHER}; its models are: fast, mistralai/*"
    assert message == failure.message


async def test_a_key_sees_only_its_models(keys, serving):
    """In the list and one by one. Another key of the tenant sees all."""
    limited, free = keys.create("acme", "--model", MODEL), keys.create("acme")
    async with serving() as http:
        caller, other = Caller(http, limited), Caller(http, free)
        listed = await http.app.chat.ListModels(service.ListModelsRequest(), metadata=caller.metadata)
        over_http = await http.client.get("/v1/models", headers=dict(caller.metadata))
        shown = [await caller.get_model(MODEL), await caller.get_model(OTHER)]
        others = [await other.get_model(MODEL), await other.get_model(OTHER)]

    assert ([MODEL], 1) == ([model.id for model in listed.models], listed.total_size)
    assert [MODEL] == [model["id"] for model in over_http.json()["data"]]
    assert [SERVED, ("NOT_FOUND", 404)] == shown
    assert [SERVED, SERVED] == others


async def test_the_models_of_key_and_tenant_both_apply(keys, tenants, serving):
    """A key cannot allow what its tenant may not use."""
    text = keys.create("acme", "--model", MODEL, "--model", OTHER)
    tenants.write_text(f'[tenants.acme]\nmodels = ["{MODEL}", "mistralai/*"]')
    async with serving() as http:
        caller = Caller(http, text)
        answered = [await caller.complete(model=name) for name in (MODEL, OTHER, "mistralai/some")]
        of_tenant, of_key = [
            await failing(http.app.chat.Complete(request(model=name), metadata=bearer(text)))
            for name in (OTHER, "mistralai/some")
        ]

    assert [SERVED, DENIED, DENIED] == answered
    assert of_tenant.message.startswith("tenant acme may not use model")
    assert of_key.message.startswith(f"key {key_id_of(text)} may not use model")


@pytest.mark.parametrize(
    ("networks", "expected"),
    [
        (["127.0.0.1"], SERVED),
        (["192.0.2.0/24", "127.0.0.0/8"], SERVED),
        (["192.0.2.0/24"], DENIED),
        (["::1"], DENIED),
    ],
)
async def test_a_key_may_be_limited_to_networks(keys, serving, networks, expected):
    """Every method rejects a caller from elsewhere."""
    text = keys.create("acme", *(word for network in networks for word in ("--network", network)))
    async with serving() as http:
        assert [expected] * 4 == await Caller(http, text).every_method()


@pytest.mark.parametrize(
    ("forwarded_for", "expected"),
    [
        ("203.0.113.7", SERVED),
        ("198.51.100.9, 203.0.113.7, 127.9.9.9", SERVED),
        ("203.0.113.7, 198.51.100.9", DENIED),
        ("", DENIED),
    ],
)
async def test_the_network_of_a_caller_behind_a_trusted_proxy_is_its_own(
    keys, serving, forwarded_for, expected
):
    """The rightmost address of `x-forwarded-for` that is not a proxy's counts: the rest may be invented."""
    text = keys.create("acme", "--network", "203.0.113.0/24")
    headers = {"x-forwarded-for": forwarded_for} if forwarded_for else {}
    async with serving(trusted_proxies=["127.0.0.0/8"]) as http:
        assert [expected] * 4 == await Caller(http, text, **headers).every_method()


async def test_a_caller_cannot_choose_its_address(keys, serving):
    """Without trusted proxies `x-forwarded-for` is ignored: it neither opens a network, nor closes one."""
    outside, inside = (keys.create("acme", "--network", name) for name in ("203.0.113.0/24", "127.0.0.1"))
    async with serving() as http:
        callers = [Caller(http, text, **{"x-forwarded-for": "203.0.113.7"}) for text in (outside, inside)]

        assert [DENIED, SERVED] == [await caller.complete() for caller in callers]


async def test_a_disabled_tenant_is_blocked_and_admitted_as_the_file_changes(keys, tenants, serving):
    """Within the second in which the file is read again. Another tenant is not concerned."""
    texts = [keys.create("acme"), keys.create("acme", "--scope", "chat,models,admin"), keys.create("globex")]
    async with serving(console=True) as http:
        acme, admin, globex = (Caller(http, text) for text in texts)

        async def reached(expected):
            outcomes = {await caller.complete() for caller in (acme, admin)}
            assert SERVED == await globex.complete()
            return outcomes == {expected} or None

        assert await reached(SERVED)
        tenants.write_text(DISABLED)
        await poll(lambda: reached(DENIED))
        assert [DENIED] * 4 == await acme.every_method()
        stats = await http.client.get("/console/stats", headers=dict(admin.metadata))
        tenants.write_text("")
        await poll(lambda: reached(SERVED))

    assert 403 == stats.status_code


async def test_streams_of_a_tenant_that_is_disabled_end_as_they_would(keys, tenants, serving, provider):
    """Only new calls are rejected."""
    text, released = keys.create("acme"), asyncio.Event()
    provider.script = streaming_until(released)
    async with serving() as http:
        call = http.app.chat.StreamComplete(request(model=MODEL), metadata=bearer(text))
        await provider.received(1)
        tenants.write_text(DISABLED)
        await poll(lambda: rejected(http, text))
        released.set()
        events, failure = await collect(call)

    assert (None, True) == (failure, events[-1].HasField("completed"))


async def rejected(http, text):
    """Return the reason if a call is rejected that needs no provider; else None."""
    try:
        await http.app.chat.GetModel(service.GetModelRequest(id="no/model"), metadata=bearer(text))
    except grpc.aio.AioRpcError as error:
        return None if error.code() is grpc.StatusCode.NOT_FOUND else error.code().name
    return None


async def test_a_key_is_rejected_at_the_greatest_age(keys, serving):
    """Whatever its expiry; with a message of its own. The clock decides while the service runs."""
    text, later = keys.create("acme"), keys.create("acme", "--expires", "2027-01-01")
    now_s = [keys.today.timestamp() + 30 * DAY_S - 1]
    async with serving(max_key_age_s=30 * DAY_S, wall_clock=lambda: now_s[0]) as http:
        callers = [Caller(http, one) for one in (text, later)]
        young = [await caller.complete() for caller in callers]
        now_s[0] += 1
        old = [await caller.complete() for caller in callers]
        failure = await failing(http.app.chat.Complete(request(), metadata=bearer(text)))

    assert ([SERVED] * 2, [UNAUTHENTICATED] * 2) == (young, old)
    assert ("INVALID_CREDENTIALS", "the key is older than the service allows") == (
        failure.info.reason,
        failure.message,
    )


async def test_a_key_created_under_the_longest_life_lasts_as_long_as_the_service_allows(keys, serving):
    """Command and service have the same setting, and agree to the second."""
    limit_s = 30 * DAY_S
    text = keys.create("acme", "--max-key-age-s", str(limit_s))
    now_s = [keys.today.timestamp() + limit_s - 1]
    async with serving(max_key_age_s=limit_s, wall_clock=lambda: now_s[0]) as http:
        caller = Caller(http, text)
        young = await caller.complete()
        now_s[0] += 1

        assert (SERVED, UNAUTHENTICATED) == (young, await caller.complete())


async def test_revoking_a_tenant_rejects_its_new_calls_and_no_others(keys, serving, provider):
    """Streams in flight end as they would, over both frontends; every key of the tenant is rejected."""
    ours, theirs = [keys.create("acme") for _ in range(2)], keys.create("globex")
    released = asyncio.Event()
    provider.script = streaming_until(released)
    async with serving() as http:
        calls = [
            http.app.chat.StreamComplete(request(model=MODEL), metadata=bearer(text))
            for text in (*ours, theirs)
        ]
        body = request_body(model=MODEL, stream=True)
        post = asyncio.create_task(http.client.post(COMPLETIONS, json=body, headers=dict(bearer(ours[0]))))
        await provider.received(4)
        status, _, error = keys.run("revoke", "--tenant", "acme")
        assert (0, 2) == (status, len(error.splitlines()))
        reasons = [await poll(lambda text=text: rejected(http, text)) for text in ours]
        other = await rejected(http, theirs)
        await eventually(lambda: http.app.app.in_flight == 4)
        released.set()
        ended = [await collect(call) for call in calls]
        over_http = await post
        await eventually(lambda: http.app.app.in_flight == 0)

    assert (["UNAUTHENTICATED"] * 2, None) == (reasons, other)
    assert [(None, True)] * 3 == [(failure, events[-1].HasField("completed")) for events, failure in ended]
    assert (200, True) == (over_http.status_code, over_http.text.endswith("data: [DONE]\n\n"))


@pytest.mark.parametrize(
    ("words", "status"),
    [((), 403), (("--scope", "chat,models,usage"), 403), (("--scope", "admin"), 200)],
)
async def test_the_consoles_figures_need_the_scope_admin(keys, serving, words, status):
    """They are those of all tenants, and no key has the scope unless it is given."""
    text = keys.create("acme", *words)
    async with serving(console=True) as http:
        response = await http.client.get("/console/stats", headers=dict(bearer(text)))

    assert status == response.status_code
    if status == 403:
        assert "the credential needs the scope `admin`" == response.json()["error"]["message"]
    else:
        assert 0 == response.json()["in_flight"]


@pytest.mark.parametrize(("network", "status"), [("127.0.0.1", 200), ("192.0.2.0/24", 403)])
async def test_the_networks_of_an_admin_key_apply_to_the_consoles_figures(keys, serving, network, status):
    """As to a call."""
    text = keys.create("acme", "--scope", "admin", "--network", network)
    async with serving(console=True) as http:
        response = await http.client.get("/console/stats", headers=dict(bearer(text)))

    assert status == response.status_code


PEPPER, SECRET = bytes(range(32)), bytes(range(32, 64))


def older_line(key, **changed):
    """Return a line of a version that knew no scopes, models and networks."""
    line = {
        "id": key_id_of(key),
        "tenant": "acme",
        "label": "",
        "created": "2025-01-01T00:00:00+00:00",
        "expires": "",
        "revoked": "",
        "digest": hmac.digest(PEPPER, key.encode(), "sha256").hex(),
    }
    return json.dumps({**line, **changed})


async def test_a_file_of_an_older_version_is_read_unchanged(keys, serving):
    """Its keys have the scopes of a key that names none. Revoking one changes only its line."""
    first, second = (format_key(bytes([number] * 6), SECRET) for number in (1, 2))
    header = json.dumps({"togetherchat_keys": 1, "pepper": PEPPER.hex()})
    keys.path.write_text(f"{header}\n{older_line(first)}\n{older_line(second)}\n")
    async with serving(console=True) as http:
        before = await Caller(http, first).every_method()
        stats = await http.client.get("/console/stats", headers=dict(bearer(first)))
        keys.revoke(first)
        await poll(lambda: rejected(http, first))
        after = await Caller(http, second).every_method()

    assert ([SERVED] * 4, 403, [SERVED] * 4) == (before, stats.status_code, after)
    revoked = older_line(first, revoked=keys.today.isoformat())
    assert f"{header}\n{revoked}\n{older_line(second)}\n" == keys.path.read_text()
