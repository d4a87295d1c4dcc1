"""An issuer of JWTs: its keys, its JWKS document and its tokens."""

import asyncio
import base64
import functools
import hashlib
import hmac
import json
import time
from contextlib import asynccontextmanager

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from togetherchat_server.tenants.jwt.token import TOKEN_BYTES_MAX

ISSUER, AUDIENCE = "https://issuer.example", "togetherchat"
MAKERS = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}
PUBLISHERS = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}


@functools.cache
def private_key(algorithm="ES256", number=0):
    """Return a private key, created once per run: RSA takes a tenth of a second."""
    del number
    return MAKERS[algorithm]()


class Key:
    """One signing key of an issuer."""

    def __init__(self, key_id, algorithm="ES256", number=0):
        self.id, self.algorithm = key_id, algorithm
        self.private = private_key(algorithm, number)

    def public(self, **members):
        """Return the entry of the JWKS document."""
        published = PUBLISHERS[self.algorithm].to_jwk(self.private.public_key(), as_dict=True)
        return {**published, "kid": self.id, "use": "sig", "alg": self.algorithm, **members}

    def public_pem(self):
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def token(self, *, headers=None, without=(), **claims):
        """Return a token that is valid for an hour, with these claims."""
        now = int(time.time())
        defaults = {"iss": ISSUER, "aud": AUDIENCE, "sub": "acme", "iat": now, "exp": now + 3600}
        payload = {name: value for name, value in (defaults | claims).items() if name not in without}
        headers = {"kid": self.id, **(headers or {})}
        return jwt.encode(payload, self.private, algorithm=self.algorithm, headers=headers)


def jwks(*keys):
    """Return the document with the public keys of `keys`, which may also be entries."""
    entries = [key.public() if isinstance(key, Key) else key for key in keys]
    return json.dumps({"keys": entries}).encode()


def oversized(key, **claims):
    """Return a signed token that is a little larger than the service accepts."""
    text = key.token(**claims)
    while len(text) <= TOKEN_BYTES_MAX:
        claims["more"] = claims.get("more", "") + "x" * 64
        text = key.token(**claims)
    return text


def forged(header, payload, signature=b""):
    """Return a token with any header, payload and signature."""
    return ".".join(
        _encoded(part) for part in (json.dumps(header).encode(), json.dumps(payload).encode(), signature)
    )


def confused(key, token):
    """Return the token, signed with the public key of the issuer as the secret of an HMAC."""
    payload = token.split(".")[1]
    signed = _encoded(json.dumps({"alg": "HS256", "kid": key.id}).encode()) + "." + payload
    signature = hmac.digest(key.public_pem(), signed.encode(), hashlib.sha256)
    return f"{signed}.{_encoded(signature)}"


def _encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class IssuerServer:
    """Serves a JWKS document over HTTP, and records what it was asked."""

    def __init__(self, document):
        self.document = document
        self.status = 200
        self.heads = []
        self.gate = asyncio.Event()
        self.gate.set()
        """While it is clear, responses wait."""
        self.url = ""

    async def serve(self, reader, writer):
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        await self.gate.wait()
        head = (
            f"HTTP/1.1 {self.status} X\r\ncontent-length: {len(self.document)}\r\nconnection: close\r\n\r\n"
        )
        writer.write(head.encode() + self.document)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def running_issuer(*keys, tls=None):
    """Run a server for the keys' document; with `tls`, a context, over HTTPS."""
    issuer = IssuerServer(jwks(*keys))
    server = await asyncio.start_server(issuer.serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    issuer.url = f"http{'s' if tls else ''}://127.0.0.1:{port}/jwks"
    async with server:
        yield issuer
