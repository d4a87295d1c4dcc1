"""The tenants file: its members and its rules."""

import re

import pytest

from togetherchat_server.tenants.identity_map import AmbiguousIdentityError
from togetherchat_server.tenants.tenants_file import (
    Tenant,
    TenantLimits,
    TenantsFile,
    TenantsTable,
    read_tenants,
)

ALL = """
[default]
requests_per_minute = 60

[tenants.acme]
models = ["a/b", "fast", "c/*"]
max_concurrent_calls = 20
requests_per_minute = 600
tokens_per_minute = 200_000
max_output_tokens = 4096
"""
MEMBERS = "max_concurrent_calls, requests_per_minute, tokens_per_minute, budget_usd_per_day"
PRICE = "[prices.m]\ninput_usd_per_million_tokens = 1"
NUMBER = "must be a whole number from 1 to 1000000000000"
MODELS = "must be a list of 1 to 1000 model names"


def read(tmp_path, text):
    path = tmp_path / "tenants.toml"
    path.write_text(text)
    return read_tenants(path)


def test_every_limit_is_read(tmp_path):
    """A tenant has its own table, or else the default one; a limit that is left out does not apply."""
    table = read(tmp_path, ALL)

    assert Tenant(
        models=("a/b", "fast", "c/*"),
        max_concurrent_calls=20,
        requests_per_minute=600,
        tokens_per_minute=200_000,
        max_output_tokens=4096,
    ) == table.limits_of("acme")
    assert TenantLimits(requests_per_minute=60) == table.limits_of("globex")


def test_an_empty_file_limits_nobody(tmp_path):
    """An empty file is valid."""
    assert TenantsTable() == read(tmp_path, "")


def test_without_a_file_nobody_is_limited():
    """The path is optional."""
    assert TenantLimits() == TenantsFile(None, clock=lambda: 0.0).limits_of("acme")


def test_a_changed_file_applies_after_a_second(tmp_path):
    """The file is followed while the service runs."""
    now_s = [0.0]
    path = tmp_path / "tenants.toml"
    path.write_text(ALL)
    tenants = TenantsFile(path, clock=lambda: now_s[0])
    path.write_text("[default]\nrequests_per_minute = 7\n")
    before = tenants.limits_of("globex").requests_per_minute
    now_s[0] = 1.0

    assert (60, 7) == (before, tenants.limits_of("globex").requests_per_minute)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = ", "not TOML in UTF-8"),
        ("[tenant.a]", "unknown member 'tenant'; known members: default, tenants, prices"),
        (
            "[default]\nbudget_usd_per_day = 0",
            "default.budget_usd_per_day: must be a number of USD from 0.01",
        ),
        ("[default]\nbudget_usd_per_month = inf", "default.budget_usd_per_month: must be a number of USD"),
        (
            "[default]\nsoft_budget_ratio = 0",
            "default.soft_budget_ratio: must be a number above 0 and up to 1",
        ),
        ("[default]\nunpriced_models = 'x'", "default.unpriced_models: "),
        (
            "[prices.m]\ninput_usd_per_million_tokens = 1",
            "prices.m.output_usd_per_million_tokens: is missing",
        ),
        (
            f"{PRICE}\noutput_usd_per_million_tokens = -1",
            "prices.m.output_usd_per_million_tokens: must be a number",
        ),
        (f"{PRICE}\noutput_usd_per_million_tokens = nan", "prices.m.output_usd_per_million_tokens: must be"),
        ("[tenants.a]\nrpm = 3", f"tenants.a: unknown member 'rpm'; known members: {MEMBERS}"),
        ("[tenants.a]\nmax_concurrent_calls = 0", f"tenants.a.max_concurrent_calls: {NUMBER}"),
        ("[default]\nmax_concurrent_calls = true", f"default.max_concurrent_calls: {NUMBER}"),
        ("[default]\nmax_concurrent_calls = 1.5", f"default.max_concurrent_calls: {NUMBER}"),
        ("[default]\nmax_output_tokens = 1000000000001", f"default.max_output_tokens: {NUMBER}"),
        ("[default]\nmodels = []", f"default.models: {MODELS}"),
        ("[default]\nmodels = [1]", f"default.models: {MODELS}"),
        ('[default]\nmodels = [""]', f"default.models: {MODELS}"),
        ('[default]\nmodels = "a"', f"default.models: {MODELS}"),
        ("tenants = 3", "tenants: must be a table"),
        ("[tenants]\na = 3", "tenants.a: must be a table"),
        ('[tenants."a b"]', "tenants.'a b': must be 1 to 64 letters, digits"),
    ],
)
def test_an_invalid_file_is_rejected_with_the_member_and_the_rule(tmp_path, text, message):
    """The error is one line."""
    with pytest.raises(ValueError, match="^" + re.escape(message)) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "[tenants.a]\nrequests_per_minute = 'SECRET'",
        "[tenants.a]\nmodels = [['SECRET']]",
        "tenants = 'SECRET'",
        f"[tenants.a]\n{'tc_000102030405_SECRET':a<67} = 1",
        f"[tenants.{'tc_000102030405_SECRET':a<67}]",
    ],
)
def test_no_message_repeats_a_value_or_a_key(tmp_path, text):
    """An operator may have put a key in the wrong place."""
    with pytest.raises(ValueError, match=r"must be|unknown member") as caught:
        read(tmp_path, text)
    assert "SECRET" not in str(caught.value)


IDENTITIES = """
[tenants.payments]
subjects = ["system:serviceaccount:payments:*", "alice"]
certificates = ["spiffe://example.org/payments/*"]

[tenants.billing]
subjects = ["system:serviceaccount:payments:billing"]
certificates = ["CN=billing,O=Example"]

[tenants.shadow]
subjects = ["alice", "system:serviceaccount:pay*"]
"""


@pytest.mark.parametrize(
    ("name", "tenant"),
    [
        ("system:serviceaccount:payments:billing", "billing"),
        ("system:serviceaccount:payroll:x", "shadow"),
        ("system:serviceaccount:other:x", None),
        ("xsystem:serviceaccount:payroll:x", None),
        ("", None),
    ],
)
def test_a_subject_belongs_to_the_tenant_that_lists_it(tmp_path, name, tenant):
    """A name that is listed in full counts before patterns."""
    assert tenant == read(tmp_path, IDENTITIES).subjects.tenant_of((name,))


@pytest.mark.parametrize("name", ["alice", "system:serviceaccount:payments:web"])
def test_a_subject_that_several_tenants_list_belongs_to_none(tmp_path, name):
    """The order of the file does not decide whose money is spent."""
    with pytest.raises(AmbiguousIdentityError, match="payments, shadow"):
        read(tmp_path, IDENTITIES).subjects.tenant_of((name,))


def test_a_certificate_belongs_to_the_tenant_that_lists_one_of_its_names(tmp_path):
    """A SPIFFE id or the subject; names of different tenants are ambiguous."""
    certificates = read(tmp_path, IDENTITIES).certificates
    spiffe, subject = "spiffe://example.org/payments/web", "CN=billing,O=Example"

    assert ("payments", "billing") == (
        certificates.tenant_of((spiffe, "CN=web")),
        certificates.tenant_of((subject,)),
    )
    with pytest.raises(AmbiguousIdentityError):
        certificates.tenant_of((spiffe, subject))


def test_a_tenant_may_be_disabled(tmp_path):
    """One of them, or all that have no table."""
    table = read(tmp_path, "[default]\ndisabled = true\n[tenants.acme]\n[tenants.old]\ndisabled = true")

    assert [False, True, True] == [table.limits_of(name).disabled for name in ("acme", "old", "unknown")]
