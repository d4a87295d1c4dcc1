"""Tests of the components of overlays, and of the chart values that add the same."""

import pytest
from rendered import CHART, COMPONENTS, REDIS, ToolError, comparable, configuration, extended, helmed

from togetherchat_server.config import Settings

DEV = CHART / "values-dev.yaml"
KEYS = {
    "api_keys_file": "/etc/togetherchat-callers/keys",
    "tenants_file": "/etc/togetherchat-callers/tenants.toml",
}
TLS = {"tls_cert_file": "/etc/togetherchat-tls/tls.crt", "tls_key_file": "/etc/togetherchat-tls/tls.key"}
MTLS = {**TLS, "tls_client_ca_file": "/etc/togetherchat-client-ca/ca.crt"}
WITH_KEYS = {"callers.secretName": "togetherchat-callers"}
WITH_TLS = {"tls.secretName": "togetherchat-tls"}
WITH_MTLS = {**WITH_TLS, "tls.clientCaConfigMap": "togetherchat-client-ca"}
WITH_REDIS = {"redis.secretName": "togetherchat-redis"}
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKENS = {"jwt_jwks_ca_file": f"{ACCOUNT}/ca.crt", "jwt_jwks_token_file": f"{ACCOUNT}/token"}
TENANTS = {"tenants_file": "/etc/togetherchat-tenants/tenants.toml"}
WITH_TENANTS = {"callers.tenants": (COMPONENTS / "tenants/tenants.toml").read_text("utf-8")}
WITH_ACCOUNTS = {"serviceAccounts.enabled": True}
CASES = {
    "keys": (["keys"], KEYS, WITH_KEYS),
    "tls": (["tls"], TLS, WITH_TLS),
    "mtls": (["tls", "mtls"], MTLS, WITH_MTLS),
    "redis": (["keys", "redis"], KEYS, {**WITH_KEYS, **WITH_REDIS}),
    "service-accounts": (
        ["tenants", "service-accounts"],
        {**TENANTS, **TOKENS},
        {**WITH_TENANTS, **WITH_ACCOUNTS},
    ),
    "certificates": (
        ["tls", "mtls", "tenants"],
        {**MTLS, **TENANTS},
        {**WITH_MTLS, **WITH_TENANTS},
    ),
    "keys-and-service-accounts": (
        ["keys", "service-accounts"],
        {**KEYS, **TOKENS},
        {**WITH_KEYS, **WITH_ACCOUNTS},
    ),
}
cases = pytest.mark.parametrize(("components", "settings", "values"), CASES.values(), ids=CASES)


@cases
def test_the_chart_adds_the_same_objects_and_flags(components, settings, values, tmp_path):
    """Component and values add the same volumes, mounts, variables and flags."""
    by_kustomize, by_helm = extended("dev", components, tmp_path), helmed(DEV, values=values)
    flags = {f"--{name.replace('_', '-')}={path}" for name, path in settings.items()}

    assert comparable(by_kustomize) == comparable(by_helm)
    assert flags <= set(by_kustomize.container["args"])
    assert flags <= set(by_helm.container["args"])


@pytest.mark.parametrize(
    ("component", "values", "setting"),
    [
        ("mtls", {"tls.clientCaConfigMap": "togetherchat-client-ca"}, "tls_client_ca_file"),
        ("redis", WITH_REDIS, "redis_url"),
        ("service-accounts", WITH_ACCOUNTS, "jwt_issuer"),
    ],
)
def test_production_can_add_a_component(component, values, setting, tmp_path):
    """Overlay and chart are equal, and the server reads the added setting."""
    both = extended("production", [component], tmp_path), helmed(values=values)

    assert comparable(both[0]) == comparable(both[1])
    first, second = (configuration(it, tmp_path / "disk").settings for it in both)
    assert first == second
    assert getattr(first, setting) != getattr(Settings(), setting)


@cases
def test_flags_name_the_mounted_files(components, settings, values, tmp_path):
    """Each flag has the path of the mounted file."""
    rendering = extended("dev", components, tmp_path)

    parsed = configuration(rendering, tmp_path / "disk").settings.model_dump()

    assert {name: f"{tmp_path}/disk{path}" for name, path in settings.items()} == {
        name: parsed[name] for name in settings
    }


@cases
def test_secrets_are_read_only_files_that_can_change(components, settings, values, tmp_path):
    """Secrets are mounted as read-only folders, readable only by the pod's group."""
    rendering = extended("dev", components, tmp_path)
    secrets = [volume for volume in rendering.pod["volumes"] if "secret" in volume]

    assert [] == [volume for volume in secrets if volume["secret"]["defaultMode"] != 0o440]
    assert all(mount["readOnly"] and "subPath" not in mount for mount in rendering.container["volumeMounts"])


def test_the_address_of_redis_is_a_secret_reference(tmp_path):
    """The address, which may contain a password, is in no manifest and no command line."""
    rendering = extended("dev", ["keys", "redis"], tmp_path)

    assert [
        {
            "name": "TOGETHERCHAT_REDIS_URL",
            "valueFrom": {"secretKeyRef": {"name": "togetherchat-redis", "key": "url"}},
        }
    ] == rendering.container["env"]
    assert REDIS == configuration(rendering, tmp_path / "disk").settings.redis_url
    assert [] == [word for word in rendering.container["args"] if "redis" in word]


@pytest.mark.parametrize(("components", "protocols"), [([], {"grpc", "http"}), (["tls"], {"https", "http"})])
def test_ports_with_tls_have_app_protocol_https(components, protocols, tmp_path):
    """With TLS the ports of callers are https; the admin port stays http."""
    rendering = extended("dev", components, tmp_path)
    ports = [
        port
        for name in ("togetherchat", "togetherchat-headless")
        for port in rendering.one("Service", name)["spec"]["ports"]
    ]

    assert protocols == {port["appProtocol"] for port in ports}
    assert ["http"] == [port["appProtocol"] for port in ports if port["name"] == "admin"]


def test_open_access_adds_only_the_flag(tmp_path):
    """The component adds --allow-unauthenticated and nothing else."""
    plain, opened = (extended("dev", names, tmp_path) for names in ([], ["open-access"]))

    assert comparable(plain) == comparable(opened)
    assert {"--allow-unauthenticated"} == set(opened.container["args"]) - set(plain.container["args"])


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"tls.secretName": "", "tls.clientCaConfigMap": "togetherchat-client-ca"}, "clientCaConfigMap"),
        ({"callers.secretName": "", **WITH_REDIS}, "redis"),
        ({"callers.secretName": "", **WITH_ACCOUNTS}, "serviceAccounts"),
        (WITH_TENANTS, "callers/tenants"),
    ],
    ids=["mtls", "redis", "service-accounts", "tenants"],
)
def test_incomplete_combinations_are_rejected(values, name):
    """Rendering fails for a value that needs another value that is missing."""
    with pytest.raises(ToolError, match=name):
        helmed(values=values)
