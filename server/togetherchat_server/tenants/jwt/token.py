"""Checks a JWT against an issuer's keys and rules (RFC 7519, RFC 8725). Pure, apart from PyJWT's clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

import jwt

from togetherchat_server.domain.identity import SCOPES, SUBJECT_SCOPES, Scope
from togetherchat_server.domain.reasons import sanitise
from togetherchat_server.tenants.jwt.key_set import ALGORITHMS, KeySet

TOKEN_BYTES_MAX: Final = 6144
"""From 8 KiB of metadata on, all headers together, gRPC rejects calls at random."""
CLOCK_SKEW_S: Final = 60.0
"""How far the clocks of issuer and service may differ."""
REQUIRED: Final = ("exp", "iss", "aud")
NAME_CHARACTERS_MAX: Final = 1024
SUBJECT_CHARACTERS_MAX: Final = 256

_PROBLEMS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (jwt.ExpiredSignatureError, "the token has expired"),
    (jwt.ImmatureSignatureError, "the token is not valid yet"),
    (jwt.InvalidAudienceError, "the token is for another audience"),
    (jwt.InvalidIssuerError, "the token has another issuer"),
    (jwt.InvalidSignatureError, "the token's signature is wrong"),
    (jwt.MissingRequiredClaimError, f"the token must have the claims {', '.join(REQUIRED)}"),
)
NOT_A_TOKEN: Final = "the token is not a valid JWT"  # noqa: S105  a message
TOO_LARGE: Final = f"the token is larger than {TOKEN_BYTES_MAX} bytes"
WRONG_ALGORITHM: Final = "the service does not accept the algorithm of the token's signature"
WRONG_KEY_ALGORITHM: Final = "the algorithm of the token does not fit the key that it names"
NO_TENANT_CLAIM: Final = "the token does not have the claim that names the tenant"
BAD_SCOPES: Final = "the token's scope claim is not a text or a list of texts"

_FAILURES: Final = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)


class TokenError(Exception):
    """A token is rejected. The message is for the caller and repeats nothing of the token."""


class UnknownKeyError(Exception):
    """The key that a token names is not among the issuer's keys. `key_id` is the caller's text."""

    def __init__(self, key_id: str) -> None:
        super().__init__(key_id)
        self.key_id = key_id


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """What a token must have. `tenant_claim` is the name of a claim, or a JSON pointer (RFC 6901)."""

    issuer: str
    audience: str
    tenant_claim: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a valid token says of its holder."""

    tenant_name: str
    """The value of the claim that names the tenant."""
    subject: str
    scopes: frozenset[Scope]
    expires_s: float
    """Seconds since 1970, clock skew included."""


def verify(text: str, keys: KeySet, rules: TokenRules) -> Claims:
    """Return the claims of a token, or raise what rejects it.

    Raises:
        TokenError: the token is not acceptable.
        UnknownKeyError: the token may be acceptable, if the issuer has another key by now.
    """
    if len(text) > TOKEN_BYTES_MAX:
        raise TokenError(TOO_LARGE)
    try:
        header = jwt.get_unverified_header(text)
    except _FAILURES:
        raise TokenError(NOT_A_TOKEN) from None
    algorithm, key_id = header.get("alg"), header.get("kid", "")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise TokenError(WRONG_ALGORITHM)
    if not isinstance(key_id, str):
        raise TokenError(NOT_A_TOKEN)
    key = keys.find(key_id, algorithm)
    if key is None:
        raise UnknownKeyError(key_id)
    if algorithm not in key.algorithms:
        raise TokenError(WRONG_KEY_ALGORITHM)
    try:
        claims = jwt.decode(
            text,
            key.key,
            algorithms=[algorithm],
            issuer=rules.issuer,
            audience=rules.audience,
            leeway=CLOCK_SKEW_S,
            options={"require": list(REQUIRED)},
        )
        return _claims(claims, rules)
    except _FAILURES as exc:
        raise TokenError(_problem(exc)) from None


def _claims(claims: Mapping[str, object], rules: TokenRules) -> Claims:
    tenant_name = _value_of(claims, rules.tenant_claim)
    if not isinstance(tenant_name, str) or not 0 < len(tenant_name) <= NAME_CHARACTERS_MAX:
        raise TokenError(NO_TENANT_CLAIM)
    subject = claims.get("sub")
    return Claims(
        tenant_name=tenant_name,
        subject=sanitise(
            subject if isinstance(subject, str) else tenant_name, characters_max=SUBJECT_CHARACTERS_MAX
        ),
        scopes=_scopes(claims),
        expires_s=float(cast("float", claims["exp"])) + CLOCK_SKEW_S,
    )


def _value_of(claims: Mapping[str, object], claim: str) -> object:
    """Return the value at the name of a claim, or at a JSON pointer."""
    if not claim.startswith("/"):
        return claims.get(claim)
    value: object = claims
    for part in claim[1:].split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        value = _member(value, name)
    return value


def _member(value: object, name: str) -> object:
    return cast("dict[str, object]", value).get(name) if isinstance(value, dict) else None


def _scopes(claims: Mapping[str, object]) -> frozenset[Scope]:
    """Return the scopes of `scope` (RFC 9068) or `scp`. Those of other services are ignored."""
    value = claims.get("scope", claims.get("scp"))
    if value is None:
        return SUBJECT_SCOPES
    names = value.split() if isinstance(value, str) else value
    if not isinstance(names, list):
        raise TokenError(BAD_SCOPES)
    texts = (name for name in cast("list[object]", names) if isinstance(name, str))
    return frozenset(SCOPES[text] for text in texts if text in SCOPES)


def _problem(exc: Exception) -> str:
    return next((problem for kind, problem in _PROBLEMS if isinstance(exc, kind)), NOT_A_TOKEN)
