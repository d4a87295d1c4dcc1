"""Certificates for a test, a folder in which they can be replaced, and TLS clients."""

import asyncio
import hashlib
import socket
import ssl
from contextlib import closing
from datetime import UTC, datetime, timedelta

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAMES = ("localhost", "127.0.0.1")
CANARY_COMMENT = "canary-of-a-key-file"


class Pair:
    """A certificate, its key and its authority, as bytes in PEM format."""

    def __init__(self, authority, *names, **options):
        issued = authority.issue_cert(*(names or NAMES), **options)
        self.authority = authority.cert_pem.bytes()
        self.chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        # Text before a PEM block is a comment. Tests search for it where a key must not appear.
        self.key = CANARY_COMMENT.encode() + b"\n" + issued.private_key_pem.bytes()
        der = ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())
        self.sha256 = hashlib.sha256(der).hexdigest()


class CallerPair(Pair):
    """A client certificate of an authority with a SPIFFE id, a subject, or both."""

    def __init__(self, authority, *uris, common_name="", organization=""):
        key = ec.generate_private_key(ec.SECP256R1())
        signer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
        signing_key = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
        parts = ((NameOID.ORGANIZATION_NAME, organization), (NameOID.COMMON_NAME, common_name))
        now = datetime.now(UTC)
        names = [x509.UniformResourceIdentifier(uri) for uri in uris] or [x509.DNSName("caller")]
        issued = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(kind, text) for kind, text in parts if text]))
            .issuer_name(signer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
            )
            .sign(signing_key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        self.authority = authority.cert_pem.bytes()
        self.chain = issued.public_bytes(pem)
        self.key = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class Folder:
    """The folder of the service's TLS files. Each file is replaced by a rename."""

    def __init__(self, path):
        self.path = path
        self.certificate, self.key, self.client_ca = (
            path / name for name in ("tls.crt", "tls.key", "ca.crt")
        )

    def put(self, pair, client_ca=None):
        """Replace the certificate, then the key, as most tools do: they do not match in between."""
        replace(self.certificate, pair.chain)
        replace(self.key, pair.key)
        if client_ca is not None:
            replace(self.client_ca, client_ca.cert_pem.bytes())
        return self

    def settings(self, *, mutual=False):
        files = {"tls_cert_file": str(self.certificate), "tls_key_file": str(self.key)}
        return {**files, "tls_client_ca_file": str(self.client_ca)} if mutual else files

    def flags(self, *, mutual=False):
        files = self.settings(mutual=mutual).items()
        return [argument for name, path in files for argument in ("--" + name.replace("_", "-"), path)]


def replace(path, content):
    new = path.with_name(path.name + ".new")
    new.write_bytes(content)
    new.rename(path)


def expired(authority):
    return Pair(
        authority, not_before=datetime(2020, 1, 1, tzinfo=UTC), not_after=datetime(2021, 1, 1, tzinfo=UTC)
    )


def credentials(server, own=None):
    """Return credentials of a gRPC client that trusts the authority of `server` and presents `own`."""
    if own is None:
        return grpc.ssl_channel_credentials(server.authority)
    return grpc.ssl_channel_credentials(server.authority, own.key, own.chain)


def client_context(server, folder, own=None, *, alpn=()):
    """Return the same as `credentials`, as a context of `ssl`."""
    context = ssl.create_default_context(cadata=server.authority.decode())
    if alpn:
        context.set_alpn_protocols(alpn)
    if own is not None:
        chain, key = folder / "caller.pem", folder / "caller.key"
        chain.write_bytes(own.chain)
        key.write_bytes(own.key)
        context.load_cert_chain(chain, key)
    return context


class Handshake:
    """A completed handshake: the server's certificate, the protocol and the session."""

    def __init__(self, connection):
        self.sha256 = hashlib.sha256(connection.getpeercert(binary_form=True)).hexdigest()
        self.protocol = connection.selected_alpn_protocol()
        self.session = connection.session
        self.resumed = connection.session_reused


async def handshake(address, context, *, session=None):
    """Perform a handshake and read a byte. Raises the client's error.

    In TLS 1.3 the client's handshake is complete before the server has checked its certificate. Only
    reading afterwards shows whether the server accepted it.
    """
    return await asyncio.to_thread(_handshake, address, context, session)


def _handshake(address, context, session):
    host, _, port = address.rpartition(":")
    with (
        closing(socket.create_connection((host, int(port)), timeout=20)) as raw,
        context.wrap_socket(raw, server_hostname="localhost", session=session) as connection,
    ):
        connection.sendall(b"GET /none HTTP/1.1\r\nhost: localhost\r\n\r\n")
        if not connection.recv(1):
            raise ConnectionResetError("closed without a response")
        return Handshake(connection)
