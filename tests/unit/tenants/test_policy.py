"""The file of limits: what it may say."""

import re

import pytest

from togetherchat_server.tenants.policy import LimitsTable, TenantLimits, permits, read_limits

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


def read(tmp_path, text):
    path = tmp_path / "tenants.toml"
    path.write_text(text)
    return read_limits(path)


def test_every_limit_is_read(tmp_path):
    """A tenant has its own table, or the default; what is left out does not bind."""
    table = read(tmp_path, ALL)

    assert TenantLimits(
        models=("a/b", "fast", "c/*"),
        max_concurrent_calls=20,
        requests_per_minute=600,
        tokens_per_minute=200_000,
        max_output_tokens=4096,
    ) == table.of("acme")
    assert TenantLimits(requests_per_minute=60) == table.of("globex")


def test_an_empty_file_binds_nobody(tmp_path):
    assert LimitsTable() == read(tmp_path, "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = ", "it is not TOML"),
        ("[tenant.a]", "there is no table 'tenant'"),
        (
            "[tenants.a]\nrpm = 3",
            "[tenants.a] has no limit 'rpm'; there is: max_concurrent_calls, max_output_tokens",
        ),
        (
            "[tenants.a]\nmax_concurrent_calls = 0",
            "tenants.a.max_concurrent_calls must be a whole number of 1 or more",
        ),
        ("[default]\nmax_concurrent_calls = true", "default.max_concurrent_calls must be"),
        ("[default]\nmax_concurrent_calls = 1.5", "default.max_concurrent_calls must be"),
        ("[default]\nmodels = []", "default.models must be a list of 1 to"),
        ("[default]\nmodels = [1]", "default.models must be a list"),
        ('[default]\nmodels = "a"', "default.models must be a list"),
        ("tenants = 3", "[tenants] must be a table"),
        ("[tenants]\na = 3", "[tenants.a] must be a table"),
        ('[tenants."a b"]', "a tenant's name is"),
    ],
)
def test_a_wrong_file_says_where(tmp_path, text, said):
    """The table, the limit, and the rule."""
    with pytest.raises(ValueError, match=re.escape(said)):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("allowed", "model", "may"),
    [
        ((), "a/b", True),
        (("a/b",), "a/b", True),
        (("a/b",), "a/B", False),
        (("a/b",), "a/bc", False),
        (("fast",), "a/fast-1", True),
        (("fast",), "fast", False),
        (("a/*",), "a/b", True),
        (("a/*",), "ba/b", False),
        (("*",), "anything", True),
        (("a?[b]*",), "a?[b]c", True),
        (("a?[b]*",), "axbc", False),
        (("x", "a/*-70B"), "a/c-70B", True),
    ],
)
def test_what_a_list_of_models_permits(allowed, model, may):
    """Ids as they are, aliases by what they stand for, and `*`, which alone has a meaning."""
    assert may is permits(allowed, model, {"fast": "a/fast-1"})
