"""Callers with client certificates, through both frontends of one service."""

import contextlib

import grpc
import pytest
from grpc import aio

from support.app import collect, failing, request, running_app
from support.http_client import head, raw_caller, request_body
from support.tenants import Keys, bearer
from support.tls import CallerPair, client_context, credentials
from support.tokens import AUDIENCE, ISSUER, Key, jwks
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc

pytest_plugins = ["support.tls_fixtures"]

TENANTS = """
[tenants.acme]
certificates = ["spiffe://example.org/acme/*"]

[tenants.globex]
certificates = ["CN=globex,O=Example"]
subjects = ["globex-web"]

[tenants.former]
disabled = true
certificates = ["spiffe://example.org/former"]
"""
WEB = "spiffe://example.org/acme/web"
SIGNING = Key("one")
OK, UNAUTHENTICATED, DENIED = ("OK", 200), ("UNAUTHENTICATED", 401), ("PERMISSION_DENIED", 403)


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path / "keys")


class Callers:
    """The service, and callers with certificates."""

    def __init__(self, app, server, folder):
        self.app, self._server, self._folder = app, server, folder

    @contextlib.asynccontextmanager
    async def chat(self, held):
        options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
        secure = credentials(self._server, held)
        async with aio.secure_channel(self.app.addresses.grpc, secure, options) as channel:
            yield service_grpc.ChatServiceStub(channel)

    @contextlib.asynccontextmanager
    async def http(self, held):
        context = client_context(self._server, self._folder, held)
        async with raw_caller(self.app.addresses.http, tls=context) as caller:
            yield caller

    async def outcomes(self, held, credential=None):
        """Return how each frontend answers a caller with a certificate, and a credential if there is one."""
        metadata = bearer(credential) if credential else []
        async with self.chat(held) as chat:
            try:
                await chat.Complete(request(), metadata=metadata)
                over_grpc = "OK"
            except aio.AioRpcError as error:
                over_grpc = error.code().name
        headers = [f"{name}: {value}" for name, value in metadata]
        async with self.http(held) as caller:
            await caller.post(request_body(), *headers, "connection: close")
            status = int((await caller.read_to_end()).split(b" ")[1])
        return over_grpc, status


@pytest.fixture
def running(folder, pairs, tmp_path):
    """Run the service with required client certificates and the tenants file."""
    path = tmp_path / "tenants.toml"
    path.write_text(TENANTS)

    @contextlib.asynccontextmanager
    async def run(**settings):
        async with running_app(
            http_listen="127.0.0.1:0",
            sandbox_tokens_per_second=0,
            tenants_file=str(path),
            **folder.settings(mutual=True),
            **settings,
        ) as app:
            yield Callers(app, pairs[0], folder.path)

    return run


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"uris": [WEB]}, OK),
        ({"common_name": "globex", "organization": "Example"}, OK),
        ({"common_name": "globex"}, UNAUTHENTICATED),
        ({"uris": ["spiffe://example.org/other"]}, UNAUTHENTICATED),
        ({"uris": ["spiffe://example.org/former"]}, DENIED),
        ({"uris": [WEB], "common_name": "globex", "organization": "Example"}, UNAUTHENTICATED),
    ],
)
async def test_a_certificate_is_a_credential(running, authority, names, expected):
    """By its SPIFFE id or its subject, if exactly one tenant lists it, and without any key."""
    uris = names.pop("uris", ())
    held = CallerPair(authority, *uris, **names)
    async with running() as callers:
        assert expected == await callers.outcomes(held)


async def test_records_have_the_tenant_and_the_subject(running, authority):
    """Of every method; nothing of the certificate but its name is in the log."""
    held = CallerPair(authority, WEB)
    async with running() as callers:
        await callers.outcomes(held)
        async with callers.chat(held) as chat:
            await chat.ListModels(service.ListModelsRequest())
            _, failure = await collect(chat.StreamComplete(request()))

    assert None is failure
    records = callers.app.records()
    assert 4 == len(records)
    assert {("acme", WEB)} == {(record["tenant"], record["subject"]) for record in records}


async def test_a_caller_without_a_tenant_is_rejected_before_its_message_is_read(running, authority):
    """Over gRPC the message is never sent; over HTTP the body is not waited for."""
    held = CallerPair(authority, "spiffe://example.org/other")
    async with running() as callers, callers.http(held) as caller:
        options = [("grpc.use_local_subchannel_pool", 1)]
        secure = credentials(callers._server, held)
        async with aio.secure_channel(callers.app.addresses.grpc, secure, options) as channel:
            unread = await failing(channel.stream_unary("/togetherchat.v1.ChatService/Complete")())
        await caller.send(head("content-length: 1000000"))
        status = (await caller.read_head()).split(b" ")[1]

    assert (grpc.StatusCode.UNAUTHENTICATED, "MISSING_CREDENTIALS") == (unread.code, unread.info.reason)
    assert b"401" == status


async def test_a_key_and_a_certificate_must_agree(running, authority, keys):
    """A stolen key is worth nothing without the certificate of its tenant, and the other way round."""
    acme, globex = keys.create("acme"), keys.create("globex")
    held, unlisted = CallerPair(authority, WEB), CallerPair(authority, "spiffe://example.org/other")
    async with running(api_keys_file=str(keys.path)) as callers:
        outcomes = [
            await callers.outcomes(held, acme),
            await callers.outcomes(held, globex),
            await callers.outcomes(unlisted, globex),
            await callers.outcomes(held),
            await callers.outcomes(unlisted),
        ]

    assert [OK, UNAUTHENTICATED, OK, OK, UNAUTHENTICATED] == outcomes


async def test_a_token_and_a_certificate_must_agree(running, authority, tmp_path):
    """The tenant of the claim is that of the certificate."""
    (tmp_path / "jwks.json").write_bytes(jwks(SIGNING))
    settings = {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_jwks_file": str(tmp_path / "jwks.json")}
    held = CallerPair(authority, WEB)
    async with running(**settings) as callers:
        outcomes = [
            await callers.outcomes(held, SIGNING.token(sub="acme")),
            await callers.outcomes(held, SIGNING.token(sub="globex-web")),
        ]

    assert [OK, UNAUTHENTICATED] == outcomes


async def test_a_rotated_certificate_and_authority_lose_no_call(running, authority, untrusted, folder, pairs):
    """A caller with a new certificate of its name is the same tenant; one of a new authority too, once trusted."""
    async with running() as callers:
        first = await callers.outcomes(CallerPair(authority, WEB))
        again = await callers.outcomes(CallerPair(authority, WEB))
        folder.put(pairs[0], client_ca=untrusted)
        replaced = await callers.outcomes(CallerPair(untrusted, WEB))

    assert [OK, OK, OK] == [first, again, replaced]
