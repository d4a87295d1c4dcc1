"""Credentials: who the caller is, and which key is sent to the provider."""

import pytest

from togetherchat_server.calls.credentials import CredentialCheck
from togetherchat_server.calls.incoming import IncomingCall, Protocol
from togetherchat_server.domain.identity import ANONYMOUS, Identity, Scope
from togetherchat_server.domain.reasons import Reason
from togetherchat_server.domain.secret import Secret
from togetherchat_server.tenants.authentication import Authentication

SERVER = Secret("server-key")
TENANT = Identity(tenant="search", key_id="k1")
PROTOCOL = Protocol(name="test", status_name=str)


class OneKey:
    """An authenticator with one key, which counts its calls."""

    def __init__(self, identity=TENANT):
        self.calls = 0
        self._identity = identity

    def authenticate(self, text):
        if not text:
            return Authentication.rejected("send a key", Reason.MISSING_CREDENTIALS)
        assert "tc_key" == text
        self.calls += 1
        return Authentication(identity=self._identity)


def check(mode, *, authenticator=None, **metadata):
    incoming = IncomingCall(protocol=PROTOCOL, method="/s/M", **metadata)
    return CredentialCheck(key_mode=mode, server_key=lambda: SERVER, authenticator=authenticator).check(
        incoming
    )


def test_the_servers_key_is_used_in_server_mode():
    """The caller's `authorization` is not sent to the provider."""
    credentials = check("server", authorization="Bearer theirs")

    assert (credentials.upstream_key, credentials.caller_brought_key) == (SERVER, False)


@pytest.mark.parametrize("mode", ["caller", "caller-then-server"])
def test_the_callers_key_is_used_in_the_caller_modes(mode):
    """A caller's own key is used, and marked as the caller's."""
    credentials = check(mode, authorization="bearer theirs")

    assert (Secret("theirs"), True) == (credentials.upstream_key, credentials.caller_brought_key)


def test_the_servers_key_replaces_a_missing_one():
    """In caller-then-server mode, a call without a key uses the server's."""
    credentials = check("caller-then-server")

    assert (credentials.upstream_key, credentials.caller_brought_key) == (SERVER, False)


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        ("", Reason.MISSING_CREDENTIALS),
        ("Basic dTpw", Reason.INVALID_CREDENTIALS),
        ("Bearer", Reason.INVALID_CREDENTIALS),
        ("Bearer ", Reason.INVALID_CREDENTIALS),
        ("Bearer a b", Reason.INVALID_CREDENTIALS),
        ("Bearer a, Bearer b", Reason.INVALID_CREDENTIALS),
        ("Bearer k\x7f", Reason.INVALID_CREDENTIALS),
    ],
)
def test_a_caller_without_a_usable_key_is_rejected(authorization, reason):
    """In caller mode only `Bearer <key>` opens a credentials."""
    assert reason is check("caller", authorization=authorization).rejection.reason


def test_admission_control_sees_the_tenant_or_the_callers_own_key():
    """A caller with neither is not told apart from others."""
    own = check("caller", authorization="Bearer theirs")
    tenant = check("server", authenticator=OneKey(), authorization="Bearer tc_key")

    assert (Secret("theirs").fingerprint(), "search", "") == (
        own.caller,
        tenant.caller,
        check("server").caller,
    )


def test_a_caller_is_authenticated_once():
    """Each check of a key costs an HMAC."""
    authenticator = OneKey()

    credentials = check("server", authenticator=authenticator, authorization="Bearer tc_key")

    assert (1, TENANT, None) == (authenticator.calls, credentials.identity, credentials.rejection)


def test_a_rejected_call_is_recorded_for_its_tenant():
    """A caller whose key of this service is valid keeps its identity when its provider key is missing."""
    credentials = check("caller", authenticator=OneKey(), authorization="Bearer tc_key")

    assert (TENANT, Reason.MISSING_CREDENTIALS) == (credentials.identity, credentials.rejection.reason)


def test_a_caller_without_a_key_of_this_service_is_anonymous():
    """With an API keys file, every call must carry a key."""
    credentials = check("server", authenticator=OneKey())

    assert (ANONYMOUS, Reason.MISSING_CREDENTIALS) == (credentials.identity, credentials.rejection.reason)


@pytest.mark.parametrize("scope", Scope)
def test_a_call_needs_the_scope_of_its_method(scope):
    """A credential with every other scope is not permitted, and its identity is recorded."""
    including = {scope, Scope.ADMIN} if scope is Scope.USAGE else {scope}
    identity = Identity(tenant="search", key_id="k1", scopes=frozenset(Scope) - including)

    credentials = check("server", authenticator=OneKey(identity), authorization="Bearer tc_key", scope=scope)

    assert (identity, Reason.CALLER_NOT_PERMITTED) == (credentials.identity, credentials.rejection.reason)
    assert f"`{scope.value}`" in credentials.rejection.message


@pytest.mark.parametrize("scope", Scope)
def test_the_scope_admin_includes_usage(scope):
    """And no other scope."""
    identity = Identity(tenant="search", key_id="k1", scopes=frozenset({Scope.ADMIN}))

    credentials = check("server", authenticator=OneKey(identity), authorization="Bearer tc_key", scope=scope)

    assert (scope in {Scope.ADMIN, Scope.USAGE}) == (credentials.rejection is None)


@pytest.mark.parametrize("scope", Scope)
def test_without_keys_of_this_service_every_scope_is_permitted(scope):
    """There is nobody to give one to."""
    assert None is check("server", scope=scope).rejection
