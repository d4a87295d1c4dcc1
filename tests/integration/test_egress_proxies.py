"""The service behind an egress proxy: settings, environment, private authorities, and the JWKS."""

import json
import re
import ssl
from pathlib import Path

import pytest
import trustme
from grpc import aio

from support import openai
from support.app import collect, request
from support.command import running_command
from support.egress_proxy import HttpProxy
from support.scripted_upstream import ScriptedUpstream, always
from support.tls import replace
from support.transport_calls import failure_of_send
from support.upstream_script import json_response, sse
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc
from togetherchat_server.config import ProviderConfig, SettingsError, read_configuration, reloading_file
from togetherchat_server.domain.reasons import Reason
from togetherchat_server.domain.secret import Secret
from togetherchat_server.tenants.jwt.fetch import JwksRequest
from togetherchat_server.upstream import dialers, proxy_connect
from togetherchat_server.upstream.client import UpstreamClient, UpstreamLimits

ROOT = Path(__file__).parents[2]
CLOSING = json_response(200, {"id": "1"}, headers={"Connection": "close"})
LOOPBACK = ("--grpc-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
KEY = {"TOGETHER_API_KEY": "tgp_v1_canary"}
PROXY = "http://user:password-canary@proxy.example.com:3128"


def provider(*arguments, **environment):
    return read_configuration(arguments, {**KEY, **environment}).provider


def problem(*arguments, **environment):
    with pytest.raises(SettingsError) as caught:
        provider(*arguments, **environment)
    assert "canary" not in str(caught.value)
    return str(caught.value)


def test_the_setting_wins_over_the_environment():
    """`off` ignores the variables, and a URL applies even where NO_PROXY names the provider."""
    variables = {"HTTPS_PROXY": "http://other:1", "NO_PROXY": "together.ai"}

    assert "http://other:1" == str(provider(HTTPS_PROXY="http://other:1").proxy)
    assert provider(**variables).proxy is None
    assert provider("--upstream-proxy", "off", HTTPS_PROXY="http://other:1").proxy is None
    assert "http://proxy.example.com:3128" == str(provider("--upstream-proxy", PROXY, **variables).proxy)
    assert "http://proxy.example.com:3128" == str(provider(TOGETHERCHAT_UPSTREAM_PROXY=PROXY).proxy)


def test_an_invalid_proxy_stops_the_start():
    """The message names the setting or the variable, and no password."""
    flag, variable = "--upstream-proxy", "HTTPS_PROXY"

    assert problem(flag, "ftp://u:canary@proxy").startswith(
        "--upstream-proxy (TOGETHERCHAT_UPSTREAM_PROXY): must"
    )
    assert problem(**{variable: "ftp://u:canary@proxy"}).startswith("HTTPS_PROXY: must be the URL")
    assert "--upstream-proxy off" in problem(**{variable: "ftp://u:canary@proxy"})


def test_a_socks_proxy_without_its_package_stops_the_start(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    assert "pip install 'togetherchat[socks]'" in problem("--upstream-proxy", "socks5://proxy")


def test_an_unusable_file_of_authorities_stops_the_start(tmp_path):
    empty = tmp_path / "ca.pem"
    empty.write_text("no certificate")

    assert f"--upstream-ca-file: cannot use {empty}: it has no PEM" in problem(
        "--upstream-ca-file", str(empty)
    )
    assert "No such file" in problem("--upstream-ca-file", str(tmp_path / "missing"))


def server_context(authority, name="localhost"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.mark.parametrize("through_proxy", [False, True])
async def test_private_authorities_are_trusted_and_reloaded(tmp_path, monkeypatch, through_proxy):
    """A replaced file applies to new connections. TLS to the proxy has the same authorities."""
    monkeypatch.setattr(reloading_file, "CHECK_EVERY_S", 0)
    old, new, file = trustme.CA(), trustme.CA(), tmp_path / "ca.pem"
    replace(file, old.cert_pem.bytes())
    async with (
        ScriptedUpstream(always(CLOSING), tls=server_context(old), host="localhost") as upstream,
        HttpProxy(port=upstream.port, scheme="https", tls=server_context(old), host="localhost") as proxy,
    ):
        address = proxy.address() if through_proxy else None
        client = UpstreamClient.connect(
            ProviderConfig(base_url=upstream.base_url, key=None, ca_file=file, proxy=address),
            limits=UpstreamLimits(),
            user_agent="upstream-tests/1",
        )
        assert 200 == (await client.send("GET", "x", key=None, request_id="r")).status
        await upstream.change_tls(server_context(new))
        assert Reason.UPSTREAM_TLS_FAILED == (await failure_of_send(client, Secret("key-0123456789"))).reason
        replace(file, old.cert_pem.bytes() + new.cert_pem.bytes())
        assert 200 == (await client.send("GET", "x", key=None, request_id="r")).status
        await client.aclose()
        assert through_proxy == bool(proxy.targets)


async def test_a_process_behind_a_proxy(tmp_path):
    """Calls and streams of a service whose provider only the proxy can reach."""
    authority, file = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    stream = sse([openai.chunk("Hel"), openai.chunk("lo"), openai.chunk(finish_reason="stop"), openai.DONE])
    completion = json_response(200, openai.completion("Hello"))
    tls = server_context(authority, "provider.example")
    script = lambda sent: stream if json.loads(sent.body).get("stream") else completion  # noqa: E731
    async with ScriptedUpstream(script, tls=tls) as upstream, HttpProxy(port=upstream.port) as proxy:
        environment = {
            **KEY,
            "TOGETHER_BASE_URL": "https://provider.example/v1",
            "https_proxy": f"http://user:canary@127.0.0.1:{proxy.listens_on}",
            "TOGETHERCHAT_UPSTREAM_CA_FILE": str(file),
        }
        async with running_command(*LOOPBACK, environment=environment) as command:
            banner = await command.wait_for_line(" SERVING: ")
            address = banner.partition("gRPC on ")[2].partition(",")[0]
            async with aio.insecure_channel(address) as channel:
                chat = service_grpc.ChatServiceStub(channel)
                assert "Hello" == (await chat.Complete(request(model="m"))).choices[0].message.content[0].text
                events, failure = await collect(chat.StreamComplete(request(model="m")))

    assert f"through the egress proxy http://127.0.0.1:{proxy.listens_on}" in banner
    assert "canary" not in command.error_text
    assert {"provider.example:443"} == set(proxy.targets)
    assert failure is None
    assert "Hello" == "".join(event.delta.text for event in events)


async def test_the_jwks_is_fetched_through_the_proxy(tmp_path):
    """A tunnel, with the proxy's credentials."""
    authority, file = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    keys = json_response(200, {"keys": []})
    async with (
        ScriptedUpstream(always(keys), tls=server_context(authority, "issuer.example")) as issuer,
        HttpProxy(port=issuer.port) as proxy,
    ):
        address = proxy.address(user="user", password="pw")
        fetch = JwksRequest(url="https://issuer.example/keys", ca_file=file, proxy=address).fetch
        assert b"keys" in await fetch()

    assert ["issuer.example:443"] == proxy.targets
    assert "Basic dXNlcjpwdw==" in proxy.heads[0]


def test_the_proxy_of_the_jwks_is_that_of_the_environment():
    """NO_PROXY with CIDR applies, which httpx would ignore. A SOCKS proxy stops the start."""

    def jwks_proxy(url, **environment):
        return read_configuration(["--jwt-jwks-url", url], {**KEY, **environment}).jwks_proxy

    assert "http://p:1" == str(jwks_proxy("https://issuer.example/keys", HTTPS_PROXY="http://p:1"))
    cluster = {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8,.svc"}
    assert jwks_proxy("https://10.96.0.1/openid/v1/jwks", **cluster) is None
    assert jwks_proxy("https://kubernetes.default.svc/openid/v1/jwks", **cluster) is None
    with pytest.raises(SettingsError, match="--jwt-jwks-url: cannot be fetched through socks5://p:1080"):
        jwks_proxy("https://issuer.example/keys", ALL_PROXY="socks5://p")


def test_the_page_explains_every_message():
    """The messages of the code, and no others."""
    page = (ROOT / "docs" / "egress-proxy.md").read_text(encoding="utf-8")
    explained = re.findall(r"^\| (the (?:connection|egress|TLS)[^|]*) \|", page, re.MULTILINE)

    assert sorted(explained) == sorted(
        [
            proxy_connect.UNREACHABLE,
            proxy_connect.REJECTS_CREDENTIALS,
            proxy_connect.REJECTS_PROVIDER,
            proxy_connect.CANNOT_CONNECT,
            proxy_connect.UNREADABLE,
            dialers.PROXY_TLS_FAILED,
        ]
    )
