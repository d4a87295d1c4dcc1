"""The public keys of an issuer, as its JWKS document lists them (RFC 7517). Pure: bytes go in.

The algorithms of a token are decided by the key, never by the token (RFC 8725, 3.1). Symmetric keys are not
read at all, so a public key can never be taken for the secret of an HMAC.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast, final

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import AllowedPublicKeys

DOCUMENT_BYTES_MAX: Final = 2**20
KEYS_MAX: Final = 100
RSA_BITS_MIN: Final = 2048

_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_BY_CURVE: Final[Mapping[str, frozenset[str]]] = {
    "P-256": frozenset({"ES256"}),
    "P-384": frozenset({"ES384"}),
    "P-521": frozenset({"ES512"}),
    "Ed25519": frozenset({"EdDSA"}),
    "Ed448": frozenset({"EdDSA"}),
}
ALGORITHMS: Final = _RSA.union(*_BY_CURVE.values())
"""Every algorithm that a token may have, if the key that it names fits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """One key, and the algorithms of the signatures that it verifies."""

    id: str
    algorithms: frozenset[str]
    key: AllowedPublicKeys


@final
class KeySet:
    """The usable keys of a JWKS document."""

    def __init__(self, keys: Sequence[PublicKey], *, fingerprint: bytes = b"") -> None:
        self._keys = tuple(keys)
        self.fingerprint: Final = fingerprint
        """The hash of the document."""

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, key_id: str, algorithm: str) -> PublicKey | None:
        """Return the key with this id; without an id the only key that fits the algorithm."""
        if key_id:
            return next((key for key in self._keys if key.id == key_id), None)
        fitting = [key for key in self._keys if algorithm in key.algorithms]
        return fitting[0] if len(fitting) == 1 else None


def read_key_set(document: bytes) -> KeySet:
    """Read a JWKS document. Keys that verify no signature of `ALGORITHMS` are left out.

    Raises:
        ValueError: the document is not a JWKS, or has no usable key. The message repeats none of its text.
    """
    if len(document) > DOCUMENT_BYTES_MAX:
        raise ValueError(f"must be at most {DOCUMENT_BYTES_MAX} bytes")
    try:
        members: object = json.loads(document)
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None
    entries = cast("dict[str, object]", members).get("keys") if isinstance(members, dict) else None
    if not isinstance(entries, list):
        raise ValueError("is not a JWKS document: it has no list `keys`")  # noqa: TRY004  the file is invalid
    entries = cast("list[object]", entries)
    if len(entries) > KEYS_MAX:
        raise ValueError(f"must have at most {KEYS_MAX} keys")
    keys = [
        key
        for entry in entries
        if isinstance(entry, dict) and (key := _public_key(cast("dict[str, object]", entry))) is not None
    ]
    if not keys:
        raise ValueError("has no usable key: RSA of 2048 bits or more, P-256, P-384, P-521 or Ed25519")
    return KeySet(keys, fingerprint=hashlib.sha256(document).digest())


def _public_key(entry: dict[str, object]) -> PublicKey | None:
    """Return the key of an entry; None if it is not one that verifies signatures."""
    kind, curve, key_id = entry.get("kty"), entry.get("crv"), entry.get("kid", "")
    algorithms = _RSA if kind == "RSA" else _BY_CURVE.get(str(curve)) if kind in {"EC", "OKP"} else None
    if algorithms is None or entry.get("use", "sig") != "sig" or not isinstance(key_id, str):
        return None
    # A set that was published by mistake with its private members is read as public all the same.
    public = {name: value for name, value in entry.items() if name in {"kty", "crv", "n", "e", "x", "y"}}
    try:
        key = cast("AllowedPublicKeys", jwt.PyJWK.from_dict(public, algorithm=min(algorithms)).key)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if isinstance(key, RSAPublicKey) and key.key_size < RSA_BITS_MIN:
        return None
    named = entry.get("alg")
    if named is not None:
        algorithms &= {str(named)}
    return PublicKey(id=key_id, algorithms=algorithms, key=key) if algorithms else None
