"""Tests of the component for callers with tokens of Kubernetes service accounts."""

from pathlib import Path

import kubernetes_validate
import pytest
from rendered import NAMESPACES, NEWEST, configuration, extended, helmed
from test_components import ACCOUNT, WITH_ACCOUNTS, WITH_TENANTS
from test_policy import failed_checks

from togetherchat_server.tenants.tenants_file import read_tenants

COMPONENTS = ["tenants", "service-accounts"]
WITHOUT_KEYS = {"callers.secretName": "", **WITH_TENANTS, **WITH_ACCOUNTS}


@pytest.fixture(params=["dev", "production"])
def with_accounts(request, tmp_path):
    """An overlay with the component."""
    names = COMPONENTS if request.param == "dev" else ["service-accounts"]
    return request.param, extended(request.param, names, tmp_path)


def test_the_objects_match_the_schemas_of_kubernetes(with_accounts):
    """Every added object matches the schema of its kind, without unknown fields."""
    _, rendering = with_accounts
    for it in rendering.objects:
        if it["kind"] != "ServiceMonitor":
            kubernetes_validate.validate(it, NEWEST.rpartition(".")[0], strict=True)


def test_kube_score_finds_nothing(with_accounts):
    """No check fails that the overlay does not ignore."""
    _, rendering = with_accounts

    assert {} == failed_checks(rendering)


def test_the_pods_have_an_account_that_reads_keys_and_nothing_else(with_accounts):
    """The account of the pods is bound to the role that reads the API server's keys, in its own namespace."""
    overlay, rendering = with_accounts
    binding = rendering.one("ClusterRoleBinding", "togetherchat-issuer-discovery")

    assert "togetherchat" == rendering.pod["serviceAccountName"]
    assert rendering.one("ServiceAccount")["automountServiceAccountToken"] is False
    assert NAMESPACES[overlay] == rendering.one("ServiceAccount")["metadata"]["namespace"]
    assert "system:service-account-issuer-discovery" == binding["roleRef"]["name"]
    assert [{"kind": "ServiceAccount", "name": "togetherchat", "namespace": NAMESPACES[overlay]}] == binding[
        "subjects"
    ]


def test_only_the_component_mounts_a_token(with_accounts):
    """The token of the pods is projected, short-lived and without the audience of callers; no other token is mounted."""
    _, rendering = with_accounts
    (volume,) = (it for it in rendering.pod["volumes"] if "projected" in it)
    (token,) = (
        it["serviceAccountToken"] for it in volume["projected"]["sources"] if "serviceAccountToken" in it
    )
    (mount,) = (it for it in rendering.container["volumeMounts"] if it["name"] == volume["name"])

    assert rendering.pod["automountServiceAccountToken"] is False
    assert {"path": "token", "expirationSeconds": 3600} == token
    assert (ACCOUNT, True) == (mount["mountPath"], mount["readOnly"])
    assert 0o440 == volume["projected"]["defaultMode"]


def test_without_the_component_the_pods_have_no_token(rendering):
    """Overlays and chart neither project a token nor name an account."""
    assert [] == [it for it in rendering.pod["volumes"] if "projected" in it]
    assert "serviceAccountName" not in rendering.pod
    assert set() == {it["kind"] for it in rendering.objects} & {"ServiceAccount", "ClusterRoleBinding"}


def test_the_chart_without_the_binding_creates_no_object_of_the_cluster():
    """An operator who may not create a ClusterRoleBinding sets a value; the account remains."""
    rendering = helmed(values={**WITH_ACCOUNTS, "serviceAccounts.clusterRoleBinding": False})

    assert [] == [it for it in rendering.objects if it["kind"] == "ClusterRoleBinding"]
    assert "togetherchat" == rendering.pod["serviceAccountName"]


@pytest.mark.parametrize("renderer", ["kustomize", "helm"])
def test_the_server_verifies_tokens_of_the_cluster(renderer, tmp_path):
    """The server starts without keys, and reads the keys of the API server with a token of the pods."""
    rendering = (
        extended("dev", COMPONENTS, tmp_path) if renderer == "kustomize" else helmed(values=WITHOUT_KEYS)
    )

    settings = configuration(rendering, tmp_path / "disk").settings

    assert settings.api_keys_file is None
    assert settings.allow_unauthenticated is False
    assert "https://kubernetes.default.svc.cluster.local" == settings.jwt_issuer
    assert "https://kubernetes.default.svc/openid/v1/jwks" == settings.jwt_jwks_url
    assert "togetherchat" == settings.jwt_audience
    assert settings.tenants_file is not None
    subjects = read_tenants(Path(settings.tenants_file)).subjects
    assert "payments" == subjects.tenant_of(("system:serviceaccount:payments:checkout",))
    assert subjects.tenant_of(("system:serviceaccount:default:default",)) is None


def test_issuer_and_audience_are_values():
    """The chart passes both to the server."""
    values = {"serviceAccounts.issuer": "https://issuer.example.com", "serviceAccounts.audience": "chat"}
    arguments = helmed(values={**WITH_ACCOUNTS, **values}).container["args"]

    assert {"--jwt-issuer=https://issuer.example.com", "--jwt-audience=chat"} <= set(arguments)


def test_a_changed_tenant_starts_no_rollout():
    """The server reloads the file: the pod template does not depend on it."""
    first, second = (
        helmed(values={**WITHOUT_KEYS, "callers.tenants": f"[tenants.{name}]\n"}) for name in ("a", "b")
    )

    assert first.one("ConfigMap", "togetherchat-tenants") != second.one("ConfigMap", "togetherchat-tenants")
    assert first.one("Deployment") == second.one("Deployment")
