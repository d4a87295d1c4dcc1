"""Authorities and certificates for a test, in a folder where they can be replaced, and raw callers."""

import asyncio
import hashlib
import socket
import ssl
from contextlib import closing
from datetime import UTC, datetime

import grpc

NAMES = ("localhost", "127.0.0.1")
CANARY_COMMENT = "canary-of-a-key-file"


class Pair:
    """A certificate, its key and its authority, as bytes in PEM."""

    def __init__(self, authority, *names, **options):
        made = authority.issue_cert(*(names or NAMES), **options)
        self.authority = authority.cert_pem.bytes()
        self.chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
        # What stands before a PEM block is a comment: a text to look for where no key should be.
        self.key = CANARY_COMMENT.encode() + b"\n" + made.private_key_pem.bytes()
        der = ssl.PEM_cert_to_DER_cert(made.cert_chain_pems[0].bytes().decode())
        self.sha256 = hashlib.sha256(der).hexdigest()


class Folder:
    """The files that the service is told of. Each is written beside itself and turned round at once."""

    def __init__(self, path):
        self.path = path
        self.certificate, self.key, self.client_ca = (
            path / name for name in ("tls.crt", "tls.key", "ca.crt")
        )

    def put(self, pair, client_ca=None):
        """Certificate first, as most tools do: for a moment the two do not belong together."""
        replace(self.certificate, pair.chain)
        replace(self.key, pair.key)
        if client_ca is not None:
            replace(self.client_ca, client_ca.cert_pem.bytes())
        return self

    def settings(self, *, mutual=False):
        chosen = {"tls_cert_file": str(self.certificate), "tls_key_file": str(self.key)}
        return {**chosen, "tls_client_ca_file": str(self.client_ca)} if mutual else chosen

    def flags(self, *, mutual=False):
        named = self.settings(mutual=mutual).items()
        return [word for name, path in named for word in ("--" + name.replace("_", "-"), path)]


def replace(path, content):
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(content)
    beside.rename(path)


def expired(authority):
    return Pair(
        authority, not_before=datetime(2020, 1, 1, tzinfo=UTC), not_after=datetime(2021, 1, 1, tzinfo=UTC)
    )


def credentials(server, own=None):
    """Credentials of a gRPC client that trusts the authority of `server`, and shows `own`."""
    if own is None:
        return grpc.ssl_channel_credentials(server.authority)
    return grpc.ssl_channel_credentials(server.authority, own.key, own.chain)


def caller_context(server, folder, own=None, *, alpn=()):
    """As `credentials`, of a caller that speaks through `ssl`."""
    context = ssl.create_default_context(cadata=server.authority.decode())
    if alpn:
        context.set_alpn_protocols(alpn)
    if own is not None:
        chain, key = folder / "caller.pem", folder / "caller.key"
        chain.write_bytes(own.chain)
        key.write_bytes(own.key)
        context.load_cert_chain(chain, key)
    return context


class Seen:
    """What a caller saw of a handshake: the certificate, the protocol, and what it could resume."""

    def __init__(self, connection):
        self.sha256 = hashlib.sha256(connection.getpeercert(binary_form=True)).hexdigest()
        self.protocol = connection.selected_alpn_protocol()
        self.session = connection.session
        self.resumed = connection.session_reused


async def shaken(address, context, *, session=None):
    """Shake hands and hear something, or nothing; raises what the caller hears.

    In TLS 1.3 a caller is through before the server has looked at its certificate: only what is
    read after that says how it went.
    """
    return await asyncio.to_thread(_shaken, address, context, session)


def _shaken(address, context, session):
    host, _, port = address.rpartition(":")
    with (
        closing(socket.create_connection((host, int(port)), timeout=20)) as raw,
        context.wrap_socket(raw, server_hostname="localhost", session=session) as connection,
    ):
        connection.sendall(b"GET /none HTTP/1.1\r\nhost: localhost\r\n\r\n")
        if not connection.recv(1):
            raise ConnectionResetError("closed without a word")
        return Seen(connection)
