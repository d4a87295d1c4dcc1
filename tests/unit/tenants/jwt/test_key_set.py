"""The JWKS document of an issuer: which keys are read, and for which algorithms."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from support.tokens import Key, jwks
from togetherchat_server.tenants.jwt.key_set import ALGORITHMS, DOCUMENT_BYTES_MAX, KEYS_MAX, read_key_set

RSA, EC, ED = Key("rsa", "RS256"), Key("ec", "ES256"), Key("ed", "EdDSA")
SECRET = {"kty": "oct", "kid": "secret", "k": "c2VjcmV0", "alg": "HS256"}


@pytest.mark.parametrize("key", [RSA, EC, ED])
def test_a_key_is_found_by_its_id(key):
    """With the algorithms that fit it and no others."""
    found = read_key_set(jwks(RSA, EC, ED)).find(key.id, key.algorithm)

    assert (key.id, {key.algorithm}) == (found.id, set(found.algorithms))


def test_an_rsa_key_without_an_algorithm_verifies_all_of_rsa():
    """A public key without `alg` is limited by its type."""
    entry = RSA.public()
    del entry["alg"]

    found = read_key_set(jwks(entry)).find("rsa", "RS256")

    assert {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"} == set(found.algorithms)


def test_no_algorithm_with_a_shared_secret_is_known():
    """Neither an HMAC nor `none`."""
    assert not any(name.startswith("HS") or name == "none" for name in ALGORITHMS)


def test_without_an_id_the_only_fitting_key_is_found():
    """If several fit, the token must name one."""
    one = read_key_set(jwks(RSA, EC))
    two = read_key_set(jwks(EC, Key("other", "ES256", 1)))

    assert ("ec", None, None) == (one.find("", "ES256").id, one.find("", "EdDSA"), two.find("", "ES256"))


def test_keys_that_verify_nothing_are_left_out():
    """Secrets, keys for encryption, short RSA keys, unknown types, and what is not a key at all."""
    short = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True)
    others = [
        SECRET,
        RSA.public(use="enc"),
        {**short, "kid": "short"},
        EC.public(kty="XX"),
        EC.public(crv="P-1"),
        EC.public(alg="RS256"),
        EC.public(x="!"),
        EC.public(kid=7),
        RSA.public(n=None),
        "text",
        None,
    ]

    assert 1 == len(read_key_set(jwks(*others, EC)))


def test_a_private_key_that_was_published_is_read_as_public():
    """Its private members are not used."""
    published = {**EC.public(), "d": "AAAA"}

    assert "ec" == read_key_set(jwks(published)).find("ec", "ES256").id


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (b"", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[]", "no list `keys`"),
        (b'{"keys": {}}', "no list `keys`"),
        (b'{"keys": []}', "has no usable key"),
        (json.dumps({"keys": [SECRET]}).encode(), "has no usable key"),
        (json.dumps({"keys": [{}] * (KEYS_MAX + 1)}).encode(), "must have at most"),
        (b" " * (DOCUMENT_BYTES_MAX + 1), "must be at most"),
    ],
)
def test_a_document_without_usable_keys_is_rejected(document, problem):
    """The last good keys then stay in use."""
    with pytest.raises(ValueError, match=problem):
        read_key_set(document)
