"""Checks of a token: each one by a token that only it rejects."""

import base64
import time
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.tokens import AUDIENCE, ISSUER, Key, confused, forged, jwks, oversized
from togetherchat_server.domain.identity import Scope
from togetherchat_server.tenants.jwt import token as module
from togetherchat_server.tenants.jwt.key_set import read_key_set
from togetherchat_server.tenants.jwt.token import TokenError, TokenRules, UnknownKeyError, verify

KEY, OTHER = Key("one"), Key("two", number=1)
RSA = Key("rsa", "RS256")
KEYS = read_key_set(jwks(KEY, RSA))
RULES = TokenRules(issuer=ISSUER, audience=AUDIENCE, tenant_claim="sub")
HOUR = 3600


@dataclass(frozen=True)
class FromNow:
    """A time that is so many seconds from the test's run: pytest collects tests minutes earlier."""

    seconds: float


def at_now(claims):
    """Return the claims with times in place of `FromNow`."""
    now = time.time()
    return {
        name: now + value.seconds if isinstance(value, FromNow) else value for name, value in claims.items()
    }


def rejected(text, rules=RULES):
    with pytest.raises(TokenError) as caught:
        verify(text, KEYS, rules)
    return str(caught.value)


def with_claim(claim):
    return TokenRules(issuer=ISSUER, audience=AUDIENCE, tenant_claim=claim)


@pytest.mark.parametrize("key", [KEY, RSA])
def test_a_valid_token_names_its_holder(key):
    """The tenant, the subject, the scopes, and when the token expires."""
    claims = verify(key.token(sub="acme", scope="chat email admin"), KEYS, RULES)

    assert ("acme", "acme", {Scope.CHAT, Scope.ADMIN}) == (
        claims.tenant_name,
        claims.subject,
        set(claims.scopes),
    )
    assert 0 < claims.expires_s - time.time() - HOUR <= module.CLOCK_SKEW_S


@pytest.mark.parametrize("key", [KEY, RSA])
@pytest.mark.parametrize("part", [0, 1, 2])
def test_any_changed_byte_rejects_a_token(key, part):
    """In the header, the payload and the signature."""
    parts = key.token().split(".")
    for index in range(0, len(parts[part]) - 1, 7):
        changed = list(parts)
        text = parts[part]
        changed[part] = text[:index] + ("A" if text[index] != "A" else "B") + text[index + 1 :]
        with pytest.raises((TokenError, UnknownKeyError)):
            verify(".".join(changed), KEYS, RULES)


def test_a_token_of_another_key_with_a_known_id_is_forged():
    """The signature decides, not the id."""
    assert "the token's signature is wrong" == rejected(OTHER.token(headers={"kid": "one"}))


def test_a_token_of_an_unknown_key_may_become_valid():
    """The issuer may have a new key."""
    with pytest.raises(UnknownKeyError) as caught:
        verify(OTHER.token(), KEYS, RULES)

    assert "two" == caught.value.key_id


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "HS512", "ES256K", "", None, 7, ["ES256"]])
def test_other_algorithms_are_rejected(algorithm):
    """Above all `none`, and those with a shared secret."""
    payload = {"iss": ISSUER, "aud": AUDIENCE, "sub": "acme", "exp": int(time.time()) + HOUR}

    assert module.WRONG_ALGORITHM == rejected(forged({"alg": algorithm, "kid": "one"}, payload))


@pytest.mark.parametrize("key", [KEY, RSA])
def test_a_public_key_is_not_a_secret(key):
    """A token whose HMAC has the issuer's public key as its secret."""
    assert module.WRONG_ALGORITHM == rejected(confused(key, key.token()))


def test_the_algorithm_must_fit_the_named_key():
    """A token cannot choose another algorithm for a key."""
    payload = {"iss": ISSUER, "aud": AUDIENCE, "sub": "acme", "exp": int(time.time()) + HOUR}

    assert module.WRONG_KEY_ALGORITHM == rejected(forged({"alg": "RS256", "kid": "one"}, payload))
    assert module.WRONG_KEY_ALGORITHM == rejected(forged({"alg": "PS256", "kid": "rsa"}, payload))


@pytest.mark.parametrize(
    ("claims", "problem"),
    [
        ({"exp": FromNow(-61)}, "the token has expired"),
        ({"nbf": FromNow(600)}, "the token is not valid yet"),
        ({"iat": FromNow(600)}, "the token is not valid yet"),
        ({"aud": "another"}, "the token is for another audience"),
        ({"aud": ["a", "b"]}, "the token is for another audience"),
        ({"aud": {}}, "the token must have the claims exp, iss, aud"),
        ({"aud": {"togetherchat": 1}}, "the token is for another audience"),
        ({"iss": "https://other.example"}, "the token has another issuer"),
        ({"iss": ISSUER + "/"}, "the token has another issuer"),
        ({"exp": float("inf")}, module.NOT_A_TOKEN),
        ({"exp": "soon"}, module.NOT_A_TOKEN),
        ({"sub": 7}, module.NOT_A_TOKEN),
        ({"sub": ""}, module.NO_TENANT_CLAIM),
        ({"sub": "x" * 1025}, module.NO_TENANT_CLAIM),
        ({"scope": 7}, module.BAD_SCOPES),
        ({"scope": {"chat": 1}}, module.BAD_SCOPES),
    ],
)
def test_a_claim_that_does_not_fit_rejects_a_token(claims, problem):
    """With a message that repeats nothing of the token."""
    assert problem == rejected(KEY.token(**at_now(claims)))


@pytest.mark.parametrize("claim", ["exp", "iss", "aud"])
def test_a_token_without_a_required_claim_is_rejected(claim):
    """A token that never expires would be a key without an expiry."""
    assert "the token must have the claims exp, iss, aud" == rejected(KEY.token(without=[claim]))


@pytest.mark.parametrize("claims", [{"exp": FromNow(-5)}, {"nbf": FromNow(30)}, {"iat": FromNow(30)}])
def test_clocks_may_differ_by_a_minute(claims):
    """Issuer and service are different machines."""
    assert "acme" == verify(KEY.token(**at_now(claims)), KEYS, RULES).tenant_name


def test_the_audience_may_be_one_of_several():
    """A token for several services."""
    assert "acme" == verify(KEY.token(aud=["other", AUDIENCE]), KEYS, RULES).tenant_name


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({}, {Scope.CHAT, Scope.MODELS}),
        ({"scope": ""}, set()),
        ({"scope": "openid profile"}, set()),
        ({"scope": "models  usage"}, {Scope.MODELS, Scope.USAGE}),
        ({"scp": ["chat", "other", 7]}, {Scope.CHAT}),
        ({"scp": "chat"}, {Scope.CHAT}),
        ({"scope": "chat", "scp": ["admin"]}, {Scope.CHAT}),
    ],
)
def test_scopes_are_those_of_the_token(claims, scopes):
    """Without a claim chat and models. A claim with only other services' scopes permits nothing."""
    assert scopes == set(verify(KEY.token(**claims), KEYS, RULES).scopes)


@pytest.mark.parametrize(
    ("claim", "claims", "tenant"),
    [
        ("tenant", {"tenant": "globex"}, "globex"),
        ("kubernetes.io", {"kubernetes.io": "flat"}, "flat"),
        ("/kubernetes.io/namespace", {"kubernetes.io": {"namespace": "payments"}}, "payments"),
        ("/a~1b/c~0d", {"a/b": {"c~d": "deep"}}, "deep"),
    ],
)
def test_the_tenant_is_named_by_any_claim(claim, claims, tenant):
    """By a name, or by a JSON pointer."""
    assert tenant == verify(KEY.token(**claims), KEYS, with_claim(claim)).tenant_name


@pytest.mark.parametrize(
    "claims", [{}, {"kubernetes.io": "x"}, {"kubernetes.io": {}}, {"kubernetes.io": {"namespace": 7}}]
)
def test_a_token_without_the_tenants_claim_is_rejected(claims):
    """Whatever is at the place of the claim."""
    assert module.NO_TENANT_CLAIM == rejected(KEY.token(**claims), with_claim("/kubernetes.io/namespace"))


@pytest.mark.parametrize(
    "header", [{"crit": ["exp"]}, {"crit": ["x"], "x": 1}, {"kid": 7}, {"b64": False, "crit": ["b64"]}]
)
def test_a_header_that_is_not_understood_rejects_a_token(header):
    """RFC 7515, 4.1.11: an extension that is critical must be understood."""
    payload = {"iss": ISSUER, "aud": AUDIENCE, "sub": "acme", "exp": int(time.time()) + HOUR}

    assert module.NOT_A_TOKEN == rejected(forged({"alg": "ES256", "kid": "one", **header}, payload))


@pytest.mark.parametrize("text", ["..", "a.b.c", "e30.e30.", "é.é.é", "\udcff.a.b", f"{'W' * 4000}.e30.x"])
def test_what_is_not_a_token_is_rejected(text):
    """Any text with two dots."""
    assert rejected(text) in {module.NOT_A_TOKEN, module.WRONG_ALGORITHM}


def test_a_token_of_excessive_size_is_rejected_before_it_is_parsed():
    """Although it is signed."""
    assert module.TOO_LARGE == rejected(oversized(KEY))


@given(st.dictionaries(st.text(max_size=8), st.recursive(st.none() | st.integers() | st.text(), st.lists)))
def test_no_header_raises_anything_else(header):
    """Headers come from strangers."""
    with pytest.raises((TokenError, UnknownKeyError)):
        verify(forged({"alg": "ES256", **header}, {"iss": ISSUER}), KEYS, RULES)


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_no_bytes_raise_anything_else(header, payload):
    """A token of arbitrary parts."""
    text = ".".join((header.decode("latin-1"), payload.decode("latin-1"), "x"))
    with pytest.raises((TokenError, UnknownKeyError)):
        verify(text, KEYS, RULES)


def test_a_nested_header_is_rejected():
    """Deeper than the parser's recursion."""
    header = base64.urlsafe_b64encode(b"[" * 4500).decode()

    assert module.NOT_A_TOKEN == rejected(f"{header}.e30.x")
