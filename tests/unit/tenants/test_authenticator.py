"""The authenticator: which mechanism decides, and how they agree."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from support.tenants import Keys
from support.tokens import AUDIENCE, ISSUER, Key, jwks
from togetherchat_server.domain.identity import SUBJECT_SCOPES, Scope
from togetherchat_server.domain.reasons import Reason
from togetherchat_server.tenants import authenticator as module
from togetherchat_server.tenants.api_keys import ApiKeys
from togetherchat_server.tenants.authenticator import Authenticator, Mechanisms
from togetherchat_server.tenants.client_certificates import ClientCertificates, names_of
from togetherchat_server.tenants.jwt import authenticator as jwt_module
from togetherchat_server.tenants.jwt.authenticator import JwtAuthenticator
from togetherchat_server.tenants.jwt.key_source import KeyFile
from togetherchat_server.tenants.jwt.token import TokenRules
from togetherchat_server.tenants.key_format import key_id_of
from togetherchat_server.tenants.tenants_file import TenantsFile

TENANTS = """
[tenants.acme]
subjects = ["alice", "shared"]
certificates = ["spiffe://example.org/acme/*", "CN=acme,O=Example"]

[tenants.globex]
subjects = ["shared"]
certificates = ["spiffe://example.org/acme/both"]

[tenants.former]
disabled = true
certificates = ["CN=former"]
"""
SIGNING, NEXT = Key("one"), Key("two", number=1)
WEB = "spiffe://example.org/acme/web"


def certificate(*uris, subject=(), encoding=serialization.Encoding.PEM):
    """Return a certificate with these names. Nothing here checks who signed it: the listener did."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(kind, value) for kind, value in subject])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
    )
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not subject)
    return builder.sign(key, hashes.SHA256()).public_bytes(encoding)


ACME = ((NameOID.ORGANIZATION_NAME, "Example"), (NameOID.COMMON_NAME, "acme"))
FORMER = ((NameOID.COMMON_NAME, "former"),)


class World:
    """An authenticator with every mechanism, and the files behind it."""

    def __init__(self, folder):
        self.now_s = 0.0
        self.keys = Keys(folder / "keys")
        self.key = self.keys.create("acme")
        self.jwks = folder / "jwks.json"
        self.jwks.write_bytes(jwks(SIGNING))
        self.tenants_path = folder / "tenants.toml"
        self.tenants_path.write_text(TENANTS)
        self.tenants = TenantsFile(self.tenants_path, clock=self.clock)

    def clock(self):
        return self.now_s

    def authenticator(self, *, keys=True, jwt=True, certificates=True):
        return Authenticator(
            Mechanisms(
                keys=ApiKeys(self.keys.path, clock=self.clock, wall_clock=lambda: 1.9e9) if keys else None,
                jwt=self._jwt() if jwt else None,
                certificates=ClientCertificates(self.tenants) if certificates else None,
            ),
            self.tenants,
        )

    def _jwt(self):
        rules = TokenRules(issuer=ISSUER, audience=AUDIENCE, tenant_claim="sub")
        source = KeyFile(self.jwks, clock=self.clock)
        return JwtAuthenticator(rules, source, self.tenants, clock=self.clock, wall_clock=lambda: 1.7e9)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def outcome(found):
    """Return the tenant, or the reason of the rejection."""
    return found.rejection.reason if found.rejection else found.identity.tenant


async def decided(authenticator, credential, held=None):
    """Authenticate as a session does."""
    found = authenticator.authenticate(credential)
    return await authenticator.settle(credential, held) if found.pending else found


def test_a_key_and_a_token_are_decided_by_the_metadata(world):
    """Where no certificate matters, nothing is pending."""
    authenticator = world.authenticator(certificates=False)
    found = [authenticator.authenticate(text) for text in (world.key, SIGNING.token(sub="alice"), "")]

    assert ["acme", "acme", Reason.MISSING_CREDENTIALS] == [outcome(each) for each in found]
    assert not any(each.pending for each in found)
    assert (key_id_of(world.key), "") == (found[0].identity.key_id, found[0].identity.subject)
    assert ("", "alice", SUBJECT_SCOPES) == (
        found[1].identity.key_id,
        found[1].identity.subject,
        found[1].identity.scopes,
    )


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("acme", "acme"),
        ("unlisted", "unlisted"),
        ("system:serviceaccount:x:y", Reason.INVALID_CREDENTIALS),
        ("shared", Reason.INVALID_CREDENTIALS),
        ("former", Reason.CALLER_NOT_PERMITTED),
        ("a b", Reason.INVALID_CREDENTIALS),
    ],
)
def test_the_claim_names_the_tenant_unless_a_tenant_lists_it(world, subject, expected):
    """A value that is no tenant's name must be listed, by one tenant."""
    found = world.authenticator(certificates=False).authenticate(SIGNING.token(sub=subject))

    assert expected == outcome(found)
    assert subject == found.identity.subject


def test_a_token_is_checked_once_while_nothing_changes(world, monkeypatch):
    """A signature costs a tenth of a millisecond; the tenant is looked up each time."""
    authenticator, token = world.authenticator(certificates=False), SIGNING.token(sub="alice")
    checks = []
    verify = jwt_module.verify
    monkeypatch.setattr(jwt_module, "verify", lambda *given: checks.append(1) or verify(*given))

    assert ["acme"] * 3 == [outcome(authenticator.authenticate(token)) for _ in range(3)]
    assert 1 == len(checks)
    world.tenants_path.write_text('[tenants.other]\nsubjects = ["alice"]\n')
    world.now_s += 1
    assert "other" == outcome(authenticator.authenticate(token))
    world.jwks.write_bytes(jwks(NEXT))
    world.now_s += 1
    assert authenticator.authenticate(token).pending


async def test_a_token_of_a_new_key_is_served_at_once(world):
    """The file was replaced a moment ago, and the next check of it is not due."""
    authenticator = world.authenticator(certificates=False)
    world.jwks.write_bytes(jwks(SIGNING, NEXT))

    assert "acme" == outcome(await decided(authenticator, NEXT.token()))


async def test_a_key_that_the_issuer_does_not_have_is_not_looked_for_again_at_once(world):
    """Invented key ids cost a look at the source once in ten seconds each."""
    authenticator = world.authenticator(certificates=False)
    first = await decided(authenticator, NEXT.token())
    again = authenticator.authenticate(NEXT.token())

    assert [Reason.INVALID_CREDENTIALS] * 2 == [outcome(first), outcome(again)]
    assert jwt_module.UNKNOWN_KEY == again.rejection.message
    world.now_s += jwt_module.UNKNOWN_KEY_S
    assert authenticator.authenticate(NEXT.token()).pending


@pytest.mark.parametrize("encoding", [serialization.Encoding.PEM, serialization.Encoding.DER])
@pytest.mark.parametrize(
    ("uris", "subject", "expected"),
    [
        ((WEB,), (), "acme"),
        ((), ACME, "acme"),
        ((WEB,), ACME, "acme"),
        (("https://example.org/acme/web",), (), Reason.MISSING_CREDENTIALS),
        (("spiffe://example.org/other/web",), (), Reason.MISSING_CREDENTIALS),
        (("spiffe://example.org/acme/both",), ACME, Reason.INVALID_CREDENTIALS),
        ((), FORMER, Reason.CALLER_NOT_PERMITTED),
        ((), (), Reason.MISSING_CREDENTIALS),
    ],
)
async def test_a_certificate_names_its_tenant(world, uris, subject, expected, encoding):
    """By its SPIFFE id or its subject, as gRPC or HTTP present it."""
    held = certificate(*uris, subject=subject, encoding=encoding)

    assert expected == outcome(await decided(world.authenticator(), "", held))


@pytest.mark.parametrize("held", [None, b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n", b"\x30\x00"])
async def test_without_a_usable_certificate_a_caller_needs_a_credential(world, held):
    """The message names every way."""
    found = await decided(world.authenticator(), "", held)

    assert Reason.MISSING_CREDENTIALS is found.rejection.reason
    assert all(word in found.rejection.message for word in ("Bearer tc_", "JWT", "client certificate"))
    assert "acme" == outcome(await decided(world.authenticator(), world.key, held))


async def test_a_key_or_token_and_a_certificate_must_agree(world):
    """Where the certificate has a tenant. The identity is that of the key, with the certificate's subject."""
    authenticator = world.authenticator()
    other = world.keys.create("globex")
    world.now_s += 1
    acme = certificate(WEB)
    unlisted = certificate("spiffe://example.org/other")
    both = await decided(authenticator, world.key, acme)

    assert ("acme", key_id_of(world.key), WEB) == (
        both.identity.tenant,
        both.identity.key_id,
        both.identity.subject,
    )
    assert Scope.USAGE in both.identity.scopes
    assert module.DISAGREEING == (await decided(authenticator, other, acme)).rejection.message
    assert (
        module.DISAGREEING == (await decided(authenticator, SIGNING.token(sub="x"), acme)).rejection.message
    )
    assert "acme" == outcome(await decided(authenticator, SIGNING.token(sub="alice"), acme))
    assert "globex" == outcome(await decided(authenticator, other, unlisted))


async def test_a_bad_key_is_rejected_although_the_certificate_is_good(world):
    """The caller meant to use the key."""
    world.keys.revoke(world.key)
    authenticator = world.authenticator()

    assert Reason.INVALID_CREDENTIALS is outcome(authenticator.authenticate(world.key))
    assert Reason.INVALID_CREDENTIALS is outcome(await authenticator.settle(world.key, certificate(WEB)))


async def test_while_no_tenant_lists_a_certificate_nothing_is_pending(world):
    """The feature costs nothing then, and takes effect when the file is changed."""
    world.tenants_path.write_text("")
    authenticator = world.authenticator()
    world.now_s += 1
    assert not authenticator.authenticate(world.key).pending
    world.tenants_path.write_text(TENANTS)
    world.now_s += 1
    assert authenticator.authenticate(world.key).pending


@pytest.mark.parametrize(
    ("options", "credential", "message"),
    [
        ({"keys": False}, "tc_x", module.NO_KEYS),
        ({"jwt": False}, "a.b.c", "has no credential of this service"),
        ({}, "tgp_v1_0123", "x-together-api-key"),
    ],
)
def test_a_credential_of_another_kind_is_rejected_with_what_is_accepted(world, options, credential, message):
    """A Together key in the wrong header is a likely mistake."""
    found = world.authenticator(certificates=False, **options).authenticate(credential)

    assert Reason.INVALID_CREDENTIALS is found.rejection.reason
    assert message in found.rejection.message


def test_a_disabled_tenant_is_rejected_whatever_its_credential(world):
    """Its identity is recorded."""
    key = world.keys.create("former")
    world.now_s += 1
    found = world.authenticator(certificates=False).authenticate(key)

    assert (Reason.CALLER_NOT_PERMITTED, "former") == (found.rejection.reason, found.identity.tenant)
    assert "tenant former is disabled" == found.rejection.message


def test_names_are_spiffe_ids_before_the_subject():
    """RFC 4514 writes the last part of a subject first."""
    assert (WEB, "CN=acme,O=Example") == names_of(certificate("https://x.example", WEB, subject=ACME))
