"""nginx and HAProxy in front of the service, with the files that docs/proxies.md shows.

The file of the page is the file that runs. The tests replace its addresses, its certificate and, for one
behavior at a time, a setting.
"""

import re
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
from grpc import aio

from proxies.programs import program, running
from support.http_client import running_http
from support.ports import reserved_address
from support.scripted_upstream import ScriptedUpstream
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc

PAGE = Path(__file__).parents[2] / "docs" / "proxies.md"
SITE = "chat.example.com"
BACKENDS = ("10.0.0.11", "10.0.0.12")
LISTENER = {"nginx": "listen 443", "haproxy": "bind :443"}


def blocks(language):
    """Return the code blocks of the page in a language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def edited(text, *edits):
    """Replace strings. Each must occur once."""
    for old, new in edits:
        assert 1 == text.count(old), f"the file must have this once: {old}"
        text = text.replace(old, new)
    return text


def without(setting):
    """Return the edit that removes a setting."""
    return setting, ""


@dataclass(frozen=True, kw_only=True)
class Backend:
    """The addresses of one replica of the service."""

    grpc: str
    http: str
    admin: str


def backend_of(service):
    addresses = service.app.addresses
    return Backend(grpc=addresses.grpc, http=addresses.http, admin=addresses.admin)


@dataclass(frozen=True, kw_only=True)
class Front:
    """A running proxy, and clients of it."""

    address: str
    authority: str
    tls: ssl.SSLContext
    credentials: grpc.ChannelCredentials
    channel: aio.Channel
    chat: service_grpc.ChatServiceStub
    http: httpx.AsyncClient


class ReverseProxy:
    """Runs nginx or HAProxy with the file of the page.

    `edits` are replacements in the file; see `edited`.
    """

    def __init__(self, name, authority, folder):
        self.name = name
        self._authority = authority
        self._folder = folder
        pair = authority.issue_cert("localhost", "127.0.0.1", SITE)
        self._certificate, self._key, both = (folder / name for name in ("tls.crt", "tls.key", "tls.pem"))
        pair.cert_chain_pems[0].write_to_path(self._certificate)
        pair.private_key_pem.write_to_path(self._key)
        pair.private_key_and_cert_chain_pem.write_to_path(both)
        self._both = both

    @asynccontextmanager
    async def in_front_of(self, *backends, edits=(), options=()):
        """Yield a proxy in front of one or two backends. `options` are those of the gRPC channel."""
        with reserved_address() as address:
            (text,) = blocks(self.name)
            text = self._placed(edited(text, *edits), address, (*backends, backends[-1])[:2])
            arguments = self._nginx(text) if self.name == "nginx" else self._haproxy(text)
            async with (
                running(arguments, address=address, log=self._folder / "log"),
                self._clients(address, options) as front,
            ):
                yield front

    def _placed(self, text, address, backends):
        """Return the file with the addresses and the certificate of this test."""
        listener = LISTENER[self.name]
        edits = [(listener, f"{listener.split(' ')[0]} {address}")]
        for host, backend in zip(BACKENDS, backends, strict=True):
            edits.append((f"{host}:50051", backend.grpc))
            if self.name == "haproxy":
                admin_port = backend.admin.rpartition(":")[2]
                edits.append((f"{host}:3000 check port 9464", f"{backend.http} check port {admin_port}"))
            else:
                edits.append((f"{host}:3000", backend.http))
        return edited(text, *edits)

    def _nginx(self, text):
        temporary = "".join(
            f"    {kind}_temp_path {self._folder / kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        text = edited(
            text,
            ("/etc/nginx/tls.crt", str(self._certificate)),
            ("/etc/nginx/tls.key", str(self._key)),
            ("\nhttp {\n", f"\nhttp {{\n    access_log off;\n{temporary}"),
            ("worker_processes auto;", "worker_processes 1;"),
        )
        file = self._folder / "nginx.conf"
        file.write_text(text, encoding="utf-8")
        pid = self._folder / "nginx.pid"
        globals_ = f"daemon off; pid {pid}; error_log stderr; user root root;"
        return program("nginx"), "-p", str(self._folder), "-e", "stderr", "-c", str(file), "-g", globals_

    def _haproxy(self, text):
        file = self._folder / "haproxy.cfg"
        text = text.replace("/etc/haproxy/tls.pem", str(self._both))
        # HAProxy does not start if it may not open as many files.
        text = edited(text, ("maxconn 4000", "maxconn 200"))
        file.write_text(text, encoding="utf-8")
        return program("haproxy"), "-db", "-f", str(file)

    @asynccontextmanager
    async def _clients(self, address, options):
        tls = ssl.create_default_context()
        self._authority.configure_trust(tls)
        credentials = grpc.ssl_channel_credentials(self._authority.cert_pem.bytes())
        options = options or [("grpc.enable_retries", 0)]
        async with (
            aio.secure_channel(address, credentials, options=options) as channel,
            httpx.AsyncClient(base_url=f"https://{address}", verify=tls, trust_env=False, timeout=30) as http,
        ):
            yield Front(
                address=address,
                authority=self._authority.cert_pem.bytes().decode(),
                tls=tls,
                credentials=credentials,
                channel=channel,
                chat=service_grpc.ChatServiceStub(channel),
                http=http,
            )


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A provider, the service, and a proxy in front."""

    upstream: ScriptedUpstream
    service: object
    front: Front


@asynccontextmanager
async def chain(proxy, script, *, edits=(), options=(), **settings):
    """Run a provider that follows a script, the service, and a proxy in front of it."""
    async with (
        ScriptedUpstream(script) as upstream,
        running_http(upstream.base_url, trusted_proxies="127.0.0.1", **settings) as service,
        proxy.in_front_of(backend_of(service), edits=edits, options=options) as front,
    ):
        yield Chain(upstream=upstream, service=service, front=front)
