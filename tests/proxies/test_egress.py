"""The service behind a real tinyproxy and a real Squid, which require a password."""

import json
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import pytest
import trustme

from proxies.egress import (
    FORBIDDEN,
    NAME,
    EgressProxy,
    Service,
    running_egress_proxy,
    running_service,
)
from proxies.provider import (
    COMPLETION,
    FIRST_TOKEN,
    RELEASED_S,
    STREAM,
)
from support.app import collect, failing, request
from support.scripted_upstream import ScriptedUpstream
from support.upstream_script import Stall

HOSTS = ("localhost", NAME, FORBIDDEN)
OPEN_STREAM = (FIRST_TOKEN, Stall())
SCHEMES = ["http", "https"]


def answered(sent):
    """Return a completion or a stream, as the request asks."""
    return STREAM if json.loads(sent.body).get("stream") else COMPLETION


def stalled(_sent):
    return OPEN_STREAM


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A provider, an egress proxy in front of it, and the service behind both."""

    upstream: ScriptedUpstream
    proxy: EgressProxy
    service: Service


@pytest.fixture(params=["tinyproxy", "squid"])
def name(request):
    return request.param


@asynccontextmanager
async def chain(
    name,
    script,
    tmp_path,
    *,
    scheme="https",
    host="localhost",
    password=None,
    variable="TOGETHERCHAT_UPSTREAM_PROXY",
):
    """Run a provider of a scheme and a name, a proxy, and the service with the proxy in a variable."""
    authority, file = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    tls = None
    if scheme == "https":
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*HOSTS).configure_cert(tls)
    async with (
        ScriptedUpstream(script, tls=tls, host=host) as upstream,
        running_egress_proxy(name, upstream.port) as proxy,
        running_service(
            upstream.base_url, "--upstream-ca-file", str(file), environment={variable: proxy.url(password)}
        ) as service,
    ):
        yield Chain(upstream=upstream, proxy=proxy, service=service)
        assert "canary" not in service.command.error_text


def text_of(events):
    return "".join(event.delta.text for event in events)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_calls_and_streams(name, scheme, tmp_path):
    """A tunnel to a provider with TLS, and forwarded requests to one without."""
    async with chain(name, answered, tmp_path, scheme=scheme) as one:
        for _ in range(2):
            response = await one.service.chat.Complete(request())
            assert "Hello" == response.choices[0].message.content[0].text
            events, failure = await collect(one.service.chat.StreamComplete(request()))
            assert (None, "Hello") == (failure, text_of(events))

    assert f"through the egress proxy http://127.0.0.1:{one.proxy.port}" in one.service.banner


async def test_the_variables_of_the_environment(tmp_path):
    """HTTPS_PROXY leads to a provider whose name only the proxy can resolve."""
    async with chain("squid", answered, tmp_path, host=NAME, variable="HTTPS_PROXY") as one:
        response = await one.service.chat.Complete(request())

    assert "Hello" == response.choices[0].message.content[0].text


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_cancelled_stream_releases_the_provider(name, scheme, tmp_path):
    async with chain(name, stalled, tmp_path, scheme=scheme) as one:
        call = one.service.chat.StreamComplete(request())
        while not (await call.read()).delta.text:
            pass
        call.cancel()
        await one.upstream.closed(0, within_s=RELEASED_S)


@pytest.mark.parametrize(("name", "scheme"), [("tinyproxy", "https"), ("squid", "https"), ("squid", "http")])
async def test_a_wrong_password(name, scheme, tmp_path):
    """tinyproxy rejects a forwarded request with a 401, which cannot be told from the provider's."""
    async with chain(name, answered, tmp_path, scheme=scheme, password="wrong-canary") as one:
        failure = await failing(one.service.chat.Complete(request()))

    assert (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_CONNECT_FAILED") == (failure.code, failure.info.reason)
    assert "the egress proxy rejects this service's credentials" == failure.message


async def test_a_forbidden_host(name, tmp_path):
    async with chain(name, answered, tmp_path, host=FORBIDDEN) as one:
        failure = await failing(one.service.chat.Complete(request()))

    assert (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_CONNECT_FAILED") == (failure.code, failure.info.reason)
    assert "the egress proxy does not allow connections to the provider" == failure.message


async def test_a_proxy_that_dies_and_returns(name, tmp_path):
    """The stream fails, and so does a call without the proxy; the call after its restart succeeds."""
    scripts = iter([OPEN_STREAM, COMPLETION])
    async with chain(name, lambda _sent: next(scripts), tmp_path) as one:
        call = one.service.chat.StreamComplete(request())
        while not (await call.read()).delta.text:
            pass
        await one.proxy.program.kill()
        cut = await failing(call.read())
        refused = await failing(one.service.chat.Complete(request()))
        await one.proxy.program.start()
        response = await one.service.chat.Complete(request())

    assert grpc.StatusCode.UNAVAILABLE is cut.code
    assert cut.info.reason in {"UPSTREAM_RESET", "UPSTREAM_TRUNCATED"}
    assert ("UPSTREAM_CONNECT_FAILED", "the connection to the egress proxy failed") == (
        refused.info.reason,
        refused.message,
    )
    assert "Hello" == response.choices[0].message.content[0].text


async def test_a_tunnel_that_the_proxy_closes_while_idle_fails_no_call(name, tmp_path):
    """The next call opens a tunnel."""
    async with chain(name, answered, tmp_path) as one:
        await one.service.chat.Complete(request())
        await one.proxy.program.kill()
        await one.proxy.program.start()
        response = await one.service.chat.Complete(request())

    assert "Hello" == response.choices[0].message.content[0].text
