"""Tenants of a real service: their keys, revoked keys, and every limit."""

import asyncio
import json
import re
import struct

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support import openai
from support.app import CANARY_KEY, CANARY_PROMPT, collect, failing, request, running_app
from support.http2_peer import ACK, DATA, HEADERS, PING, RST_STREAM, WINDOW_UPDATE, http2_peer, status_in
from support.http_client import COMPLETIONS, head, raw_caller, request_body, running_http
from support.scripted_upstream import ScriptedUpstream, always
from support.tenants import Keys, bearer
from support.upstream_script import Stall, json_response
from support.waiting import eventually
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.tenants.key_file import KeyTable
from togetherchat_server.tenants.key_format import format_key, key_id_of

MODEL, OTHER = "openai/gpt-oss-120b", "zai-org/GLM-5.3"
OLD, NEW = "mistralai/Mistral-7B-Instruct-v0.3", "mistralai/Ministral-3-14B-Instruct-2512"
OWN = "tgp_v1_own0123456789"
UNKNOWN = format_key(bytes(6), bytes(32))


def provider(received):
    """List two models, reject an old one, and complete the rest."""
    if received.path == "/v1/models":
        return json_response(200, [openai.model(name) for name in (MODEL, OTHER)])
    model = json.loads(received.body)["model"]
    if model == OLD:
        return json_response(404, openai.error("no such model", code="model_not_available"))
    return json_response(200, openai.completion(model=model, usage=openai.usage(90, 10)))


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path / "keys")


@pytest.fixture
def limits(tmp_path):
    """Write the tenants file, and return its path."""

    def write(text):
        path = tmp_path / "tenants.toml"
        path.write_text(text)
        return str(path)

    return write


async def code_of(call):
    """Return the status code of a call."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ([], "MISSING_CREDENTIALS"),
        ([("authorization", "Basic abc")], "INVALID_CREDENTIALS"),
        (bearer(OWN), "INVALID_CREDENTIALS"),
        (bearer(UNKNOWN), "INVALID_CREDENTIALS"),
        (bearer(UNKNOWN, *bearer(UNKNOWN)), "INVALID_CREDENTIALS"),
    ],
)
async def test_a_call_without_a_valid_key_is_rejected(keys, metadata, reason):
    """Every RPC is rejected, without a request to the provider."""
    keys.create("acme")
    async with (
        ScriptedUpstream(provider) as upstream,
        running_app(upstream.base_url, api_keys_file=str(keys.path)) as app,
    ):
        _, streaming = await collect(app.chat.StreamComplete(request(), metadata=metadata))
        failures = [
            await failing(app.chat.Complete(request(), metadata=metadata)),
            streaming,
            await failing(app.chat.ListModels(service.ListModelsRequest(), metadata=metadata)),
            await failing(app.chat.GetModel(service.GetModelRequest(id=MODEL), metadata=metadata)),
        ]

    assert [grpc.StatusCode.UNAUTHENTICATED] * 4 == [failure.code for failure in failures]
    assert [reason] * 4 == [failure.info.reason for failure in failures]
    assert [] == upstream.request_log.requests


async def test_a_call_computes_one_hmac(keys, monkeypatch):
    """A caller is authenticated once, and the result travels with the call."""
    text = keys.create("acme")
    digests = []
    compute = KeyTable.digest
    monkeypatch.setattr(KeyTable, "digest", lambda table, text: digests.append(text) or compute(table, text))
    async with (
        ScriptedUpstream(provider) as upstream,
        running_http(upstream.base_url, api_keys_file=str(keys.path)) as service,
    ):
        await service.app.chat.Complete(request(model=MODEL), metadata=bearer(text))
        await collect(service.app.chat.StreamComplete(request(model=MODEL), metadata=bearer(text)))
        headers = {"authorization": f"Bearer {text}"}
        assert (
            200 == (await service.client.post(COMPLETIONS, json=request_body(), headers=headers)).status_code
        )
        assert 200 == (await service.client.get("/v1/models", headers=headers)).status_code
        rejected = await failing(service.app.chat.Complete(request(model=MODEL), metadata=bearer(UNKNOWN)))

    assert "INVALID_CREDENTIALS" == rejected.info.reason
    assert [text] * 4 + [UNKNOWN] == digests


async def test_health_needs_no_key(keys):
    """Probes have no key."""
    keys.create("acme")
    async with running_app(api_keys_file=str(keys.path)) as app:
        answer = await health_pb2_grpc.HealthStub(app.channel).Check(health_pb2.HealthCheckRequest())

    assert health_pb2.HealthCheckResponse.SERVING == answer.status


async def test_an_unknown_caller_is_rejected_before_its_message_is_read(keys):
    """The status comes after the headers alone; the message is never sent."""
    keys.create("acme")
    async with running_app(api_keys_file=str(keys.path)) as app:
        stream = app.channel.stream_unary("/togetherchat.v1.ChatService/Complete")(metadata=bearer(UNKNOWN))

        assert "UNAUTHENTICATED" == await code_of(stream)


MESSAGE_BYTES = 4 * 2**20
NO_ERROR = 0


@pytest.mark.parametrize("known", [False, True])
async def test_a_large_message_with_an_invalid_key_is_not_read(keys, known):
    """Its sender gets RST_STREAM and no WINDOW_UPDATE; with a valid key it gets a WINDOW_UPDATE."""
    text = keys.create("acme")
    headers = [("authorization", f"Bearer {text if known else UNKNOWN}")]
    begun = struct.pack("!BI", 0, MESSAGE_BYTES).ljust(2**14, b"\0")
    async with running_app(api_keys_file=str(keys.path)) as app, http2_peer(app.addresses.grpc) as peer:

        async def echo(number):
            peer.ping(number)
            await peer.seen(lambda frame: frame.kind == PING and frame.flags & ACK, times=number)

        def frames_of_call(kind):
            return [frame for frame in peer.frames if frame.stream == 1 and frame.kind == kind]

        peer.open(1, "/togetherchat.v1.ChatService/Complete", headers)
        await eventually(lambda: known or frames_of_call(RST_STREAM))
        for number in range(1, 9):
            peer.send(DATA, stream=1, payload=begun if number == 1 else bytes(2**14))
            await echo(number)
        await eventually(lambda: not known or frames_of_call(WINDOW_UPDATE))
        granted, ended, stopped = (frames_of_call(kind) for kind in (WINDOW_UPDATE, HEADERS, RST_STREAM))

    unauthenticated = grpc.StatusCode.UNAUTHENTICATED.value[0]
    assert ([] if known else [unauthenticated]) == [status_in(one) for one in ended]
    assert ([] if known else [NO_ERROR]) == [one.error for one in stopped]
    assert known == bool(granted)


async def test_a_large_body_with_an_invalid_key_is_not_waited_for(keys):
    """Over HTTP too, the response follows the headers."""
    keys.create("acme")
    async with running_http(api_keys_file=str(keys.path)) as http, raw_caller(http.address) as caller:
        await caller.send(head(f"content-length: {MESSAGE_BYTES}", f"authorization: Bearer {UNKNOWN}"))
        answer = await caller.read_head()

    assert answer.startswith(b"HTTP/1.1 401 ")


async def test_failed_authentications_throttle_an_address(keys):
    """Both frontends then reject unknown keys without a look. Callers with valid keys are never locked out."""
    ours, theirs = keys.create("acme"), keys.create("globex")
    async with (
        ScriptedUpstream(provider) as upstream,
        running_http(upstream.base_url, api_keys_file=str(keys.path), auth_failures_per_minute=1) as http,
    ):

        async def reason(text):
            failure = await failing(http.app.chat.Complete(request(), metadata=bearer(text)))
            return failure.info.reason

        before = await code_of(http.app.chat.Complete(request(), metadata=bearer(ours)))
        reasons = [await reason(text) for text in (UNKNOWN, UNKNOWN)]
        over_http = await http.client.post(COMPLETIONS, json=request_body(), headers=dict(bearer(UNKNOWN)))
        after = [
            await code_of(http.app.chat.Complete(request(), metadata=bearer(key))) for key in (ours, theirs)
        ]
        theirs_over_http = await http.client.post(
            COMPLETIONS, json=request_body(), headers=dict(bearer(theirs))
        )

    assert ["INVALID_CREDENTIALS", "CALLER_QUOTA"] == reasons
    assert 429 == over_http.status_code
    assert ("OK", ["OK", "OK"], 200) == (before, after, theirs_over_http.status_code)


async def test_a_key_is_replaced_without_a_failed_call(keys):
    """A running service accepts a new key, and rejects a revoked one, within about a second.

    The test calls all the time, so the auth throttle is off.
    """
    old = keys.create("acme")
    async with (
        ScriptedUpstream(provider) as upstream,
        running_app(upstream.base_url, api_keys_file=str(keys.path), auth_failures_per_minute=0) as app,
    ):

        async def codes():
            return [await code_of(app.chat.Complete(request(), metadata=bearer(text))) for text in (old, new)]

        async def until(expected):
            while (seen := await codes()) != expected:
                assert seen in (["OK", "UNAUTHENTICATED"], ["OK", "OK"])
            return seen

        new = keys.create("acme")
        assert ["OK", "OK"] == await until(["OK", "OK"])
        keys.revoke(old)
        assert ["UNAUTHENTICATED", "OK"] == await until(["UNAUTHENTICATED", "OK"])


async def test_call_records_have_the_tenant_and_the_key_id(keys):
    """The key id shows which keys are still used. A rejected call has the id that its key names."""
    text = keys.create("acme")
    async with (
        ScriptedUpstream(provider) as upstream,
        running_app(upstream.base_url, api_keys_file=str(keys.path)) as app,
    ):
        await app.chat.Complete(request(), metadata=bearer(text))
        await failing(app.chat.Complete(request(), metadata=bearer(UNKNOWN)))
        await eventually(lambda: len(app.records()) == 2)
        callers = {one["code"]: (one.get("tenant"), one.get("key_id")) for one in app.records()}

    assert ("acme", key_id_of(text)) == callers["OK"]
    assert (None, key_id_of(UNKNOWN)) == callers["UNAUTHENTICATED"]


@pytest.mark.parametrize(
    ("mode", "metadata", "sent"),
    [
        ("server", (), CANARY_KEY),
        ("server", (("x-together-api-key", OWN),), CANARY_KEY),
        ("caller", (("x-together-api-key", OWN),), OWN),
        ("caller", (), None),
        ("caller", (("x-together-api-key", "a b"),), None),
        ("caller-then-server", (("x-together-api-key", OWN),), OWN),
        ("caller-then-server", (), CANARY_KEY),
    ],
)
async def test_the_callers_own_together_key_has_its_own_header(keys, mode, metadata, sent):
    """`authorization` is for this service; the modes are the same, with `x-together-api-key`."""
    text = keys.create("acme")
    async with (
        ScriptedUpstream(provider) as upstream,
        running_app(upstream.base_url, api_keys_file=str(keys.path), upstream_credentials=mode) as app,
    ):
        code = await code_of(app.chat.Complete(request(), metadata=bearer(text, *metadata)))
        seen = [one.headers["authorization"] for one in upstream.request_log.requests]

    assert [f"Bearer {sent}"] * (sent is not None) == seen
    assert ("OK" if sent else "UNAUTHENTICATED") == code


async def test_no_key_is_logged_returned_or_sent(keys, limits):
    """No log line, status, trailer or provider request has a key, whatever happens to its call."""
    text, revoked = keys.create("acme"), keys.create("acme")
    keys.revoke(revoked)
    path = limits('[default]\nrequests_per_minute = 1\nmodels = ["some/model"]')
    seen = []
    async with (
        ScriptedUpstream(provider) as upstream,
        running_app(
            upstream.base_url, api_keys_file=str(keys.path), tenants_file=path, log_format="text"
        ) as app,
    ):
        for one in (text, text, revoked, UNKNOWN, text[:-1], f"{text}, {text}"):
            try:
                await app.chat.Complete(request(), metadata=bearer(one))
            except grpc.aio.AioRpcError as error:
                seen.append(repr(error))
        keys.path.write_text(f"{text}\n")
        seen += [repr(app.app), str(upstream.request_log.requests)]
    seen.append(app.log.getvalue())

    output = "\n".join(seen)
    for one in (text, revoked):
        assert one[16:32] not in output
    assert CANARY_PROMPT not in app.log.getvalue()


async def test_a_model_that_is_not_allowed_is_rejected(keys, limits):
    """By id, by alias and as a fallback; the error lists the allowed models, which are served."""
    text = keys.create("acme")
    path = limits(f'[tenants.acme]\nmodels = ["fast", "mistralai/*"]\n[default]\nmodels = ["{OTHER}"]')
    async with (
        ScriptedUpstream(provider) as upstream,
        running_app(
            upstream.base_url,
            api_keys_file=str(keys.path),
            tenants_file=path,
            alias={"fast": MODEL, "slow": OTHER},
        ) as app,
    ):

        def complete(**fields):
            return app.chat.Complete(request(**fields), metadata=bearer(text))

        served = [await code_of(complete(model=name)) for name in ("fast", MODEL, NEW)]
        rejected = [
            await failing(complete(model=OTHER)),
            await failing(complete(model="slow")),
            await failing(complete(model=MODEL, fallback_models=[OTHER])),
        ]
        _, streaming = await collect(app.chat.StreamComplete(request(model=OTHER), metadata=bearer(text)))

    assert ["OK"] * 3 == served
    message = f"tenant acme may not use model {OTHER}; its models are: fast, mistralai/*"
    assert [message] * 4 == [failure.message for failure in (*rejected, streaming)]
    assert ["MODEL_NOT_ALLOWED"] * 3 == [failure.info.reason for failure in rejected]
    assert [OTHER] * 3 == [failure.details["ResourceInfo"].resource_name for failure in rejected]


GUARD = "meta-llama/Llama-Guard-4-12B"


@pytest.mark.parametrize(
    ("allowed", "safety_model", "rejected"),
    [
        ([MODEL], GUARD, True),
        ([MODEL], "guard", True),
        (["meta-llama/*", MODEL], GUARD, False),
        (["guard", MODEL], GUARD, False),
        (["guard", MODEL], "guard", True),
    ],
)
async def test_the_safety_model_must_be_allowed_too(keys, limits, allowed, safety_model, rejected):
    """Over gRPC, unary and streaming, and over HTTP. Aliases do not apply to it: it is sent as named."""
    headers, path = bearer(keys.create("acme")), limits(f"[default]\nmodels = {json.dumps(allowed)}")
    fields = {"model": MODEL, "safety_model": safety_model}
    async with (
        ScriptedUpstream(provider) as upstream,
        running_http(
            upstream.base_url,
            api_keys_file=str(keys.path),
            tenants_file=path,
            alias={"guard": GUARD},
            alias_unlisted=True,
        ) as http,
    ):
        chat = http.app.chat
        codes = [await code_of(chat.Complete(request(**fields), metadata=headers))]
        _, failure = await collect(chat.StreamComplete(request(**fields), metadata=headers))
        answer = await http.client.post(COMPLETIONS, json=request_body(**fields), headers=dict(headers))
        sent = [json.loads(one.body)["safety_model"] for one in upstream.request_log.requests]

    expected = (["PERMISSION_DENIED"], 403, []) if rejected else (["OK"], 200, [safety_model] * 3)
    assert expected == (codes, answer.status_code, sent)
    assert (safety_model if rejected else None) == (failure and failure.details["ResourceInfo"].resource_name)


@pytest.mark.parametrize(("allowed", "code"), [([OLD, NEW], "OK"), ([OLD], "NOT_FOUND")])
async def test_a_successor_must_be_allowed_too(keys, limits, allowed, code):
    """The successor of a model that the provider rejects does not bypass the list."""
    text = keys.create("acme")
    path = limits(f"[default]\nmodels = {json.dumps(allowed)}")
    async with (
        ScriptedUpstream(provider) as upstream,
        running_app(upstream.base_url, api_keys_file=str(keys.path), tenants_file=path) as app,
    ):
        assert code == await code_of(app.chat.Complete(request(model=OLD), metadata=bearer(text)))


async def test_a_tenant_sees_only_its_models(keys, limits):
    """On all pages and in the count; another tenant sees all models."""
    ours, theirs = keys.create("acme"), keys.create("globex")
    path = limits(f'[tenants.acme]\nmodels = ["{MODEL}", "zai-org/*"]')
    async with (
        ScriptedUpstream(provider) as upstream,
        running_app(upstream.base_url, api_keys_file=str(keys.path), tenants_file=path) as app,
    ):

        async def listed(text):
            page, names = (
                await app.chat.ListModels(service.ListModelsRequest(page_size=1), metadata=bearer(text)),
                [],
            )
            total = page.total_size
            while True:
                names += [model.id for model in page.models]
                if not page.next_page_token:
                    return names, total
                page = await app.chat.ListModels(
                    service.ListModelsRequest(page_size=1, page_token=page.next_page_token),
                    metadata=bearer(text),
                )

        names, total = await listed(ours)
        everything = await app.chat.ListModels(service.ListModelsRequest(), metadata=bearer(theirs))
        hidden = next(model.id for model in everything.models if model.id not in names)
        one = service.GetModelRequest(id=hidden)
        failure = await failing(app.chat.GetModel(one, metadata=bearer(ours)))
        shown = await app.chat.GetModel(one, metadata=bearer(theirs))

    assert ("MODEL_NOT_FOUND", hidden) == (failure.info.reason, shown.model.id)
    assert len(names) == total
    assert {MODEL, OTHER} <= set(names)
    assert [] == [name for name in names if name != MODEL and not name.startswith("zai-org/")]
    assert everything.total_size > total


async def test_the_bound_on_output_is_set_if_the_request_has_none(keys, limits):
    """All choices share it; a smaller number is not changed."""
    text = keys.create("acme")
    path = limits("[default]\nmax_output_tokens = 100")
    requests = [{}, {"n": 3}, {"max_tokens": 7}, {"max_tokens": 50, "n": 2}]
    async with (
        ScriptedUpstream(provider) as upstream,
        running_app(upstream.base_url, api_keys_file=str(keys.path), tenants_file=path) as app,
    ):
        for fields in requests:
            await app.chat.Complete(request(**fields), metadata=bearer(text))

    assert [100, 33, 7, 50] == [json.loads(one.body)["max_tokens"] for one in upstream.request_log.requests]


@pytest.mark.parametrize(
    ("fields", "field", "rule"),
    [
        ({"max_tokens": 101}, "max_tokens", "must be at most 100"),
        ({"max_tokens": 51, "n": 2}, "max_tokens", "must be at most 50"),
        ({"n": 101}, "n", "must be at most 100"),
        ({"extra_body_json": '{"max_completion_tokens": 9}'}, "extra_body_json", "allowed_members"),
    ],
)
async def test_more_output_than_allowed_is_rejected_with_the_field(keys, limits, fields, field, rule):
    """The number is not lowered silently, and another name for it does not bypass the limit."""
    text = keys.create("acme")
    path = limits("[default]\nmax_output_tokens = 100")
    async with (
        ScriptedUpstream(provider) as upstream,
        running_app(upstream.base_url, api_keys_file=str(keys.path), tenants_file=path) as app,
    ):
        failure = await failing(app.chat.Complete(request(**fields), metadata=bearer(text)))

    (violation,) = failure.details["BadRequest"].field_violations
    assert (grpc.StatusCode.INVALID_ARGUMENT, field) == (failure.code, violation.field)
    assert rule in violation.description
    assert [] == upstream.request_log.requests


EVASIONS = ("MAX_TOKENS", "best_of", "num_generations", "min_tokens", "models", "Model", "max_new_tokens")


@pytest.mark.parametrize(
    "limit", ['models = ["*"]', "max_output_tokens = 100", "tokens_per_minute = 100_000"]
)
async def test_unknown_members_are_not_passed_on_for_a_limited_tenant(keys, limits, limit):
    """The provider may give one a meaning that evades the limit. HTTP drops and names them, gRPC rejects them."""
    text = keys.create("acme")
    path = limits(f'[tenants.acme]\n{limit}\nallowed_members = ["draft_model"]')
    members = dict.fromkeys((*EVASIONS, "draft_model"), 1)
    async with (
        ScriptedUpstream(provider) as upstream,
        running_http(upstream.base_url, api_keys_file=str(keys.path), tenants_file=path) as http,
    ):
        response = await http.client.post(
            COMPLETIONS, json=request_body(seed=-5, **members), headers=dict(bearer(text))
        )
        failures = [
            await failing(
                http.app.chat.Complete(
                    request(extra_body_json=json.dumps({"draft_model": 1, name: 1})), metadata=bearer(text)
                )
            )
            for name in EVASIONS
        ]
        await http.app.chat.Complete(request(extra_body_json='{"draft_model": 1}'), metadata=bearer(text))
    over_http, over_grpc = (json.loads(one.body) for one in upstream.request_log.requests)

    assert 200 == response.status_code
    assert set(EVASIONS) == set(response.headers["x-togetherchat-ignored"].split(", "))
    assert not over_http.keys() & set(EVASIONS)
    assert (1, -5, 1) == (over_http["draft_model"], over_http["seed"], over_grpc["draft_model"])
    assert {"INVALID_REQUEST"} == {failure.info.reason for failure in failures}
    fields = [failure.details["BadRequest"].field_violations[0] for failure in failures]
    assert {"extra_body_json"} == {violation.field for violation in fields}
    assert all(name in violation.description for name, violation in zip(EVASIONS, fields, strict=True))


async def test_unknown_members_are_passed_on_for_a_tenant_without_such_limits(keys, limits):
    """A number of calls cannot be evaded by a member."""
    text = keys.create("acme")
    path = limits("[tenants.acme]\nmax_concurrent_calls = 5\nrequests_per_minute = 100")
    async with (
        ScriptedUpstream(provider) as upstream,
        running_http(upstream.base_url, api_keys_file=str(keys.path), tenants_file=path) as http,
    ):
        await http.client.post(COMPLETIONS, json=request_body(best_of=2), headers=dict(bearer(text)))

    assert 2 == json.loads(upstream.request_log.requests[0].body)["best_of"]


def quota_of(failure):
    (violation,) = failure.details["QuotaFailure"].violations
    return failure.info.reason, violation.subject, violation.description


async def test_requests_beyond_the_limit_are_rejected(keys, limits):
    """The error names the limit, the tenant and the time to retry; another tenant is served."""
    ours, theirs = keys.create("acme"), keys.create("globex")
    path = limits("[tenants.acme]\nrequests_per_minute = 2")
    async with (
        ScriptedUpstream(provider) as upstream,
        running_app(upstream.base_url, api_keys_file=str(keys.path), tenants_file=path) as app,
    ):
        codes = [await code_of(app.chat.Complete(request(), metadata=bearer(ours))) for _ in range(2)]
        failure = await failing(app.chat.Complete(request(), metadata=bearer(ours)))
        other = await code_of(app.chat.Complete(request(), metadata=bearer(theirs)))
        await eventually(lambda: len(app.records()) == 4)
        rejected = [record for record in app.records() if record["code"] == "RESOURCE_EXHAUSTED"]

    assert (["OK", "OK"], "OK") == (codes, other)
    message = "tenant acme has used up its 2 requests per minute"
    assert ("CALLER_QUOTA", "tenant:acme", message) == quota_of(failure)
    assert 1 <= failure.details["RetryInfo"].retry_delay.seconds <= 36
    assert ["acme"] == [record["tenant"] for record in rejected]


async def test_calls_beyond_the_token_limit_are_rejected(keys, limits):
    """100 of 150 used leave no room for a call that may use 60; the rejection says for how long."""
    text = keys.create("acme")
    path = limits("[default]\ntokens_per_minute = 150")
    async with (
        ScriptedUpstream(provider) as upstream,
        running_app(upstream.base_url, api_keys_file=str(keys.path), tenants_file=path) as app,
    ):
        code = await code_of(app.chat.Complete(request(max_tokens=50), metadata=bearer(text)))
        failure = await failing(app.chat.Complete(request(max_tokens=50), metadata=bearer(text)))
        requests = len(upstream.request_log.requests)

    assert ("OK", 1) == (code, requests)
    reason, subject, message = quota_of(failure)
    assert ("CALLER_QUOTA", "tenant:acme") == (reason, subject)
    assert re.fullmatch(
        r"tenant acme has 5\d left of its 150 tokens per minute, and this call may use \d\d", message
    )
    assert failure.details["RetryInfo"].retry_delay.seconds >= 1


async def test_simultaneous_calls_do_not_overdraw_the_token_limit(keys, limits):
    """Fifty streams at once are admitted as far as the tokens that they may use are available."""
    text = keys.create("acme")
    path = limits("[default]\ntokens_per_minute = 5000")
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        running_app(upstream.base_url, api_keys_file=str(keys.path), tenants_file=path) as app,
    ):
        calls = [app.chat.Complete(request(max_tokens=1000), metadata=bearer(text)) for _ in range(50)]
        rejected = [asyncio.ensure_future(failing(call)) for call in calls]
        await eventually(lambda: sum(one.done() for one in rejected) >= 46)
        await upstream.received(4)
        sent = len(upstream.request_log.requests)
        for call in calls:
            call.cancel()
        await asyncio.gather(*rejected, return_exceptions=True)

    assert 4 == sent


async def test_calls_in_flight_beyond_the_limit_are_rejected(keys, limits):
    """A call that ends in any way makes room."""
    text = keys.create("acme")
    path = limits("[default]\nmax_concurrent_calls = 1")
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        running_app(upstream.base_url, api_keys_file=str(keys.path), tenants_file=path) as app,
    ):
        first = app.chat.Complete(request(), metadata=bearer(text))
        await upstream.received(1)
        failure = await failing(app.chat.Complete(request(), metadata=bearer(text)))
        first.cancel()
        await eventually(lambda: app.app.in_flight == 0)
        second = app.chat.Complete(request(), metadata=bearer(text))
        await upstream.received(2)
        second.cancel()

    message = "tenant acme has used up its 1 calls in flight"
    assert ("CALLER_QUOTA", "tenant:acme", message) == quota_of(failure)


async def test_limits_change_while_the_service_runs(keys, limits):
    """The tenants file is followed like the API keys file."""
    text = keys.create("acme")
    path = limits("")
    async with (
        ScriptedUpstream(provider) as upstream,
        running_app(upstream.base_url, api_keys_file=str(keys.path), tenants_file=path) as app,
    ):
        assert "OK" == await code_of(app.chat.Complete(request(model=OTHER), metadata=bearer(text)))
        limits(f'[tenants.acme]\nmodels = ["{MODEL}"]')
        while (code := await code_of(app.chat.Complete(request(model=OTHER), metadata=bearer(text)))) == "OK":
            pass

    assert "PERMISSION_DENIED" == code


async def test_the_http_frontend_applies_the_same_rules(keys, limits):
    """Keys, models and limits, with the errors of OpenAI's API."""
    text = keys.create("acme")
    path = limits(f'[default]\nrequests_per_minute = 4\nmodels = ["{MODEL}"]')
    headers = dict(bearer(text))
    async with (
        ScriptedUpstream(provider) as upstream,
        running_http(upstream.base_url, api_keys_file=str(keys.path), tenants_file=path) as http,
    ):

        async def post(headers, model=MODEL):
            return await http.client.post(COMPLETIONS, json=request_body(model=model), headers=headers)

        responses = [await post(one) for one in ({}, dict(bearer(UNKNOWN)))]
        responses += [await post(headers), await post(headers, OTHER)]
        listed = await http.client.get("/v1/models", headers=headers)
        responses += [await post(headers), await post(headers)]

    assert [401, 401, 200, 403, 200, 429] == [response.status_code for response in responses]
    assert [MODEL] == [model["id"] for model in listed.json()["data"]]
    assert "tenant acme has used up its 4 requests per minute" == responses[-1].json()["error"]["message"]
    assert int(responses[-1].headers["retry-after"]) >= 1
