"""The policy of a tenant: allowed models, and the bound on output."""

import pytest

from togetherchat_server.domain.call import Call
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.tenants.policy import TenantPolicy, permits
from togetherchat_server.tenants.tenants_file import TenantsFile

LIMITS = """
[tenants.acme]
models = ["fast", "c/*"]
max_output_tokens = 100
"""


def call_of(tenant, **fields):
    return Call(
        id="1",
        method="m",
        received_s=0.0,
        deadline_s=1.0,
        deadline_reason=Reason.CALL_TIMEOUT,
        upstream_key=None,
        tenant=tenant,
        **fields,
    )


@pytest.fixture
def policy(tmp_path):
    path = tmp_path / "tenants.toml"
    path.write_text(LIMITS)
    return TenantPolicy(TenantsFile(path, clock=lambda: 0.0), aliases={"fast": "a/fast-1"})


@pytest.mark.parametrize(
    ("patterns", "model", "allowed"),
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
def test_a_list_of_models_allows_ids_aliases_and_patterns(patterns, model, allowed):
    """An id allows itself and an alias its model; in a pattern only `*` is special."""
    assert allowed is permits(patterns, model, {"fast": "a/fast-1"})


def test_a_model_that_is_not_allowed_is_rejected_with_the_allowed_ones(policy):
    """The error lists them as the file does."""
    policy.check_model(call_of("acme"), "a/fast-1")
    policy.check_model(call_of("globex"), "x/y")
    with pytest.raises(ServiceError) as caught:
        policy.check_model(call_of("acme"), "x/y")

    assert Reason.MODEL_NOT_ALLOWED is caught.value.reason
    assert "tenant acme may not use model x/y; its models are: fast, c/*" == caught.value.message


@pytest.mark.parametrize(
    ("tenant", "requested", "choices", "sent"),
    [
        ("acme", None, 1, 100),
        ("acme", None, 3, 33),
        ("acme", 7, 1, 7),
        ("acme", 50, 2, 50),
        ("globex", None, 1, None),
        ("globex", 1000, 1, 1000),
    ],
)
def test_the_bound_on_output_is_sent_if_the_request_has_none(policy, tenant, requested, choices, sent):
    """All choices share the bound; a smaller number stays as it is."""
    assert sent == policy.output_tokens(tenant, requested, choices)


@pytest.mark.parametrize(
    ("requested", "choices", "field"), [(101, 1, "max_tokens"), (51, 2, "max_tokens"), (None, 101, "n")]
)
def test_more_output_than_the_bound_is_rejected(policy, requested, choices, field):
    """The number is not lowered silently."""
    with pytest.raises(ServiceError) as caught:
        policy.output_tokens("acme", requested, choices)

    assert Reason.INVALID_REQUEST is caught.value.reason
    assert [field] == [violation.field for violation in caught.value.violations]


def test_a_key_may_use_fewer_models_than_its_tenant(policy):
    """Both lists apply; the error names the one that does not allow the model."""
    policy.check_model(call_of("acme", allowed_models=("c/*",)), "c/large")
    rejected = []
    for allowed, model in ((("c/small",), "c/large"), (("x/*",), "x/y")):
        with pytest.raises(ServiceError) as caught:
            policy.check_model(call_of("acme", key_id="00aa", allowed_models=allowed), model)
        rejected.append(caught.value.message)

    assert [
        "key 00aa may not use model c/large; its models are: c/small",
        "tenant acme may not use model x/y; its models are: fast, c/*",
    ] == rejected
