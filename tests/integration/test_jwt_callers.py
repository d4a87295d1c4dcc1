"""Callers with JWTs, through both frontends of one service."""

import asyncio
import json
import time

import grpc
import pytest

from support import openai
from support.app import collect, failing, request, running_app
from support.certificates import make_certificate
from support.http_client import COMPLETIONS, head, raw_caller, request_body, running_http
from support.scripted_upstream import ScriptedUpstream
from support.tenants import Keys, bearer
from support.tokens import AUDIENCE, ISSUER, Key, confused, forged, jwks, oversized, running_issuer
from support.upstream_script import json_response, sse
from support.waiting import eventually
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.config import SettingsError
from togetherchat_server.tenants.jwt import key_source

OLD, NEW, FOREIGN = Key("old"), Key("new", number=1), Key("foreign", number=2)
RSA = Key("rsa", "RS256")
TENANTS = """
[tenants.payments]
subjects = ["system:serviceaccount:payments:*"]
models = ["openai/gpt-oss-120b"]

[tenants.former]
disabled = true
"""
WEB = "system:serviceaccount:payments:web"
MODEL = "openai/gpt-oss-120b"
JWT = {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}


def answer(received):
    """Complete a request, as a stream if it asks for one, and list the model."""
    if received.path == "/v1/models":
        return json_response(200, [openai.model(MODEL)])
    if json.loads(received.body).get("stream"):
        return sse(openai.stream("Hi"))
    return json_response(200, openai.completion(model=MODEL, usage=openai.usage(1, 1)))


@pytest.fixture
async def provider():
    async with ScriptedUpstream(answer) as upstream:
        yield upstream


@pytest.fixture
def files(tmp_path):
    """The JWKS file and the tenants file, as settings."""
    (tmp_path / "jwks.json").write_bytes(jwks(OLD, RSA))
    (tmp_path / "tenants.toml").write_text(TENANTS)
    return {
        **JWT,
        "jwt_jwks_file": str(tmp_path / "jwks.json"),
        "tenants_file": str(tmp_path / "tenants.toml"),
    }


async def outcomes(http, credential, *, scope_models=False):
    """Return how each frontend answers a completion, or a list of models."""
    metadata = bearer(credential)
    try:
        if scope_models:
            await http.app.chat.ListModels(service.ListModelsRequest(), metadata=metadata)
        else:
            await http.app.chat.Complete(request(model=MODEL), metadata=metadata)
        over_grpc = "OK"
    except grpc.aio.AioRpcError as error:
        over_grpc = error.code().name
    if scope_models:
        response = await http.client.get("/v1/models", headers=dict(metadata))
    else:
        response = await http.client.post(COMPLETIONS, json=request_body(model=MODEL), headers=dict(metadata))
    return over_grpc, response.status_code


SERVED, UNAUTHENTICATED, DENIED = ("OK", 200), ("UNAUTHENTICATED", 401), ("PERMISSION_DENIED", 403)


@pytest.mark.parametrize("key", [OLD, RSA])
async def test_a_token_is_a_credential(provider, files, key):
    """Without any API key; records have the tenant and the subject, and the provider gets the service's key."""
    token = key.token(sub=WEB)
    async with running_http(provider.base_url, **files) as http:
        answered = await outcomes(http, token)
        events, failure = await collect(
            http.app.chat.StreamComplete(request(model=MODEL), metadata=bearer(token))
        )
        records = await http.recorded(3)

    assert SERVED == answered
    assert (None, True) == (failure, events[-1].HasField("completed"))
    assert {("payments", WEB)} == {(record["tenant"], record["subject"]) for record in records}
    assert not any("key_id" in record for record in records)
    sent = [received.headers["authorization"] for received in provider.request_log.requests]
    assert not any(token in value for value in sent)
    assert token not in http.app.log.getvalue()


def tokens():
    """Return tokens that must be rejected, by what is wrong with them."""
    now = int(time.time())
    payload = {"iss": ISSUER, "aud": AUDIENCE, "sub": WEB, "exp": now + 600}
    return {
        "forged": FOREIGN.token(sub=WEB, headers={"kid": "old"}),
        "unsigned": forged({"alg": "none", "kid": "old"}, payload),
        "unsigned without kid": forged({"alg": "none"}, payload),
        "confused": confused(OLD, OLD.token(sub=WEB)),
        "confused with RSA": confused(RSA, RSA.token(sub=WEB)),
        "swapped algorithm": forged({"alg": "RS256", "kid": "old"}, payload),
        "expired": OLD.token(sub=WEB, exp=now - 120),
        "not yet valid": OLD.token(sub=WEB, nbf=now + 600),
        "for another audience": OLD.token(sub=WEB, aud="other"),
        "of another issuer": OLD.token(sub=WEB, iss="https://evil.example"),
        "of an unknown key": FOREIGN.token(sub=WEB),
        "without expiry": OLD.token(sub=WEB, without=["exp"]),
        "of nobody": OLD.token(sub="system:serviceaccount:other:web"),
        "critical extension": forged({"alg": "ES256", "kid": "old", "crit": ["x"], "x": 1}, payload),
        "oversized": oversized(OLD, sub=WEB),
        "not a token": "a.b.c",
    }


@pytest.mark.parametrize("name", tokens())
async def test_a_bad_token_is_rejected_before_the_message_is_read(provider, files, name):
    """Over gRPC the message is never sent; over HTTP the body is not waited for."""
    token = tokens()[name]
    async with (
        running_http(provider.base_url, auth_failures_per_minute=0, **files) as http,
        raw_caller(http.address) as caller,
    ):
        rpc = http.app.channel.stream_unary("/togetherchat.v1.ChatService/Complete")(metadata=bearer(token))
        unread = await failing(rpc)
        await caller.send(head("content-length: 1000000", f"authorization: Bearer {token}"))
        status = (await caller.read_head()).split(b" ")[1]
        models = await outcomes(http, token, scope_models=True)

    assert (grpc.StatusCode.UNAUTHENTICATED, "INVALID_CREDENTIALS") == (unread.code, unread.info.reason)
    assert (b"401", UNAUTHENTICATED) == (status, models)
    assert token not in unread.message
    assert [] == provider.request_log.requests


@pytest.mark.parametrize(
    ("claims", "completes", "lists"),
    [
        ({"sub": WEB}, SERVED, SERVED),
        ({"sub": WEB, "scope": "models"}, DENIED, SERVED),
        ({"sub": WEB, "scope": "chat other"}, SERVED, DENIED),
        ({"sub": WEB, "scope": "openid"}, DENIED, DENIED),
        ({"sub": "former"}, DENIED, DENIED),
    ],
)
async def test_scopes_and_disabled_tenants_apply(provider, files, claims, completes, lists):
    """Over both frontends, before anything reaches the provider."""
    token = OLD.token(**claims)
    async with running_http(provider.base_url, model_catalog="on", **files) as http:
        answered = [await outcomes(http, token), await outcomes(http, token, scope_models=True)]

    assert [completes, lists] == answered


async def test_the_tenants_limits_apply_to_a_token(provider, files):
    """As to a key of the tenant."""
    async with running_app(provider.base_url, **files) as app:
        rejected = await failing(
            app.chat.Complete(request(model="zai-org/GLM-5.3"), metadata=bearer(OLD.token(sub=WEB)))
        )

    assert "MODEL_NOT_ALLOWED" == rejected.info.reason


async def test_a_namespace_may_name_the_tenant(provider, files):
    """By a JSON pointer to a claim of Kubernetes."""
    claims = {"sub": "system:serviceaccount:billing:web", "kubernetes.io": {"namespace": "billing"}}
    settings = {**files, "jwt_tenant_claim": "/kubernetes.io/namespace"}
    async with running_http(provider.base_url, **settings) as http:
        assert SERVED == await outcomes(http, OLD.token(**claims))
        records = await http.recorded(2)

    assert {"billing"} == {record["tenant"] for record in records}


async def test_keys_and_tokens_may_be_used_side_by_side(provider, files, tmp_path):
    """One service, callers of both kinds."""
    keys = Keys(tmp_path / "keys")
    key = keys.create("acme")
    async with running_http(provider.base_url, api_keys_file=str(keys.path), **files) as http:
        answered = [await outcomes(http, credential) for credential in (key, OLD.token(sub=WEB))]

    assert [SERVED, SERVED] == answered


async def test_a_replaced_file_loses_no_call(provider, files, tmp_path):
    """A token of the new key is served at once, and one of the removed key is rejected within a second."""
    path = tmp_path / "jwks.json"
    async with running_http(provider.base_url, auth_failures_per_minute=0, **files) as http:
        path.write_bytes(jwks(OLD, NEW))
        both = [await outcomes(http, key.token(sub=WEB)) for key in (NEW, OLD)]
        path.write_bytes(jwks(NEW))
        removed = OLD.token(sub=WEB)
        while (last := await outcomes(http, removed)) == SERVED:
            pass

    assert [SERVED, SERVED] == both
    assert last in {UNAUTHENTICATED, ("OK", 401)}


async def test_a_rotation_at_the_url_loses_no_call(provider):
    """Calls that come with the new key wait for one request; many of them share it."""
    token = NEW.token()
    async with (
        running_issuer(OLD) as issuer,
        running_http(provider.base_url, jwt_jwks_url=issuer.url, **JWT) as http,
    ):
        first = await outcomes(http, OLD.token())
        issuer.document = jwks(OLD, NEW)
        answered = await asyncio.gather(*(outcomes(http, token) for _ in range(20)))
        requests = len(issuer.heads)

    assert SERVED == first
    assert [SERVED] * 20 == answered
    assert requests <= 3


async def test_an_issuer_that_is_away_is_not_the_callers_fault(provider, monkeypatch):
    """UNAVAILABLE while there never were keys; later the last good keys stay in use."""
    monkeypatch.setattr(key_source, "REFRESH_GAP_S", 0.0)
    async with running_issuer(OLD) as issuer:
        issuer.status = 500
        async with running_http(
            provider.base_url, jwt_jwks_url=issuer.url, auth_failures_per_minute=1, **JWT
        ) as http:
            away = [await outcomes(http, OLD.token()) for _ in range(3)]
            failure = await failing(http.app.chat.Complete(request(), metadata=bearer(OLD.token())))
            issuer.status = 200
            back = await outcomes(http, OLD.token())
            issuer.status = 500
            kept = await outcomes(http, OLD.token(sub="other"))
            unknown = await outcomes(http, NEW.token())

    assert [("UNAVAILABLE", 503)] * 3 == away
    assert "AUTHENTICATION_UNAVAILABLE" == failure.info.reason
    assert "RetryInfo" in failure.details
    assert [SERVED, SERVED] == [back, kept]
    assert ("UNAVAILABLE", 503) == unknown


async def test_a_call_that_waits_for_keys_can_be_cancelled(provider):
    """Its deadline holds while the issuer does not respond."""
    async with (
        running_issuer(OLD) as issuer,
        running_app(provider.base_url, jwt_jwks_url=issuer.url, **JWT) as app,
    ):
        issuer.gate.clear()
        call = app.chat.Complete(request(), metadata=bearer(OLD.token()), timeout=0.5)
        failure = await failing(call)
        await eventually(lambda: app.admission.in_flight == 0)
        issuer.gate.set()

    assert grpc.StatusCode.DEADLINE_EXCEEDED is failure.code


async def test_a_private_issuer_needs_its_authority_and_a_token(provider, tmp_path):
    """As the API server of Kubernetes does. Both files are read again for each request."""
    certificate = make_certificate(tmp_path)
    token_file = tmp_path / "token"
    token_file.write_text("first\n")
    async with running_issuer(OLD, tls=certificate.server_context()) as issuer:
        settings = {"jwt_jwks_url": issuer.url, "jwt_jwks_token_file": str(token_file), **JWT}
        async with running_http(
            provider.base_url, jwt_jwks_ca_file=str(certificate.certificate_file), **settings
        ) as http:
            served = await outcomes(http, OLD.token())
            token_file.write_text("second\n")
            issuer.document = jwks(NEW)
            later = await outcomes(http, NEW.token())
        async with running_http(provider.base_url, **settings) as http:
            untrusted = await outcomes(http, OLD.token())

    assert [SERVED, SERVED, ("UNAVAILABLE", 503)] == [served, later, untrusted]
    assert b"authorization: Bearer first\r\n" in issuer.heads[0]
    assert b"authorization: Bearer second\r\n" in issuer.heads[-1]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"jwt_audience": "x"}, "--jwt-audience requires --jwt-issuer"),
        ({"jwt_jwks_file": "x"}, "--jwt-jwks-file requires --jwt-issuer"),
        ({"jwt_issuer": "x", "jwt_jwks_url": "https://x"}, "--jwt-issuer requires --jwt-audience"),
        (JWT, "--jwt-issuer requires either --jwt-jwks-url or --jwt-jwks-file"),
        (
            {**JWT, "jwt_jwks_url": "https://x", "jwt_jwks_file": "y"},
            "--jwt-issuer requires either --jwt-jwks-url or --jwt-jwks-file",
        ),
        ({**JWT, "jwt_jwks_url": "http://issuer.example/jwks"}, "--jwt-jwks-url must begin with https://"),
        ({**JWT, "jwt_jwks_url": "https://u:p@issuer.example"}, "--jwt-jwks-url must be an HTTPS URL"),
        ({**JWT, "jwt_jwks_url": "issuer"}, "--jwt-jwks-url must be an HTTPS URL"),
        ({**JWT, "jwt_jwks_file": "/none"}, "--jwt-jwks-file /none: file not found"),
        (
            {**JWT, "jwt_jwks_url": "https://x", "jwt_jwks_ca_file": "/none"},
            "--jwt-jwks-ca-file /none: file not found",
        ),
        (
            {**JWT, "jwt_jwks_url": "https://x", "jwt_jwks_token_file": "/none"},
            "--jwt-jwks-token-file /none: file not found",
        ),
    ],
)
async def test_settings_that_do_not_fit_are_rejected(settings, problem):
    """The error names the setting and the rule."""
    with pytest.raises(SettingsError, match=problem):
        async with running_app(**settings):
            pass


async def test_a_file_without_keys_is_rejected_at_the_start(tmp_path):
    """The error repeats nothing of the file."""
    path = tmp_path / "jwks.json"
    path.write_text('{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}')
    with pytest.raises(SettingsError, match="has no usable key"):
        async with running_app(jwt_jwks_file=str(path), **JWT):
            pass


async def test_security_events_name_the_subject_and_the_reason(provider, files, tmp_path):
    """The audit log has who used a token from where, and why one was rejected; never the token."""
    path = tmp_path / "audit.jsonl"
    good, disabled, expired = OLD.token(sub=WEB), OLD.token(sub="former"), OLD.token(sub=WEB, exp=1)
    async with running_http(provider.base_url, audit_log=str(path), **files) as http:
        for token in (good, disabled, expired):
            await outcomes(http, token)
        (tmp_path / "jwks.json").write_bytes(jwks(OLD, NEW))
        await outcomes(http, NEW.token(sub=WEB))
    text = path.read_text()
    events = [json.loads(line) for line in text.splitlines()]

    def seen(name, *fields):
        return {tuple(event.get(field) for field in fields) for event in events if event["event"] == name}

    assert {(WEB, "payments", "127.0.0.1")} == seen(
        "credential_first_used", "subject", "tenant", "client_address"
    )
    assert {
        ("former", "CALLER_NOT_PERMITTED", "tenant former is disabled"),
        (None, "INVALID_CREDENTIALS", "the token has expired"),
    } == seen("credential_rejected", "subject", "reason", "detail")
    assert {(str(tmp_path / "jwks.json"),)} == seen("jwks_refreshed", "file")
    assert not any(token in text for token in (good, disabled, expired))
