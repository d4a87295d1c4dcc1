"""What can be added to an overlay, and the values of the chart that add the same."""

import pytest
from rendered import CHART, REDIS, RefusedError, configuration, extended, helmed, meaning

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
WITH_REDIS = {"quotaRedis.secretName": "togetherchat-redis"}
CASES = {
    "keys": (["keys"], KEYS, WITH_KEYS),
    "tls": (["tls"], TLS, WITH_TLS),
    "mtls": (["tls", "mtls"], MTLS, WITH_MTLS),
    "redis": (["keys", "redis"], KEYS, {**WITH_KEYS, **WITH_REDIS}),
}
cases = pytest.mark.parametrize(("components", "settings", "values"), CASES.values(), ids=CASES)


@cases
def test_the_chart_adds_the_same(components, settings, values, tmp_path):
    """The same volumes, mounts and variables, and the same flags."""
    by_kustomize, by_helm = extended("dev", components, tmp_path), helmed(DEV, values=values)
    flags = {f"--{name.replace('_', '-')}={path}" for name, path in settings.items()}

    assert meaning(by_kustomize) == meaning(by_helm)
    assert flags <= set(by_kustomize.container["args"])
    assert flags <= set(by_helm.container["args"])


@pytest.mark.parametrize(
    ("component", "values", "setting"),
    [
        ("mtls", {"tls.clientCaConfigMap": "togetherchat-client-ca"}, "tls_client_ca_file"),
        ("redis", WITH_REDIS, "redis_url"),
    ],
)
def test_production_takes_one_more(component, values, setting, tmp_path):
    """The same by both ways, and the server reads it."""
    both = extended("production", [component], tmp_path), helmed(values=values)

    assert meaning(both[0]) == meaning(both[1])
    made = [configuration(it, tmp_path / "disk").settings for it in both]
    assert made[0] == made[1]
    assert getattr(made[0], setting) != getattr(Settings(), setting)


@cases
def test_the_server_reads_what_is_mounted(components, settings, values, tmp_path):
    """Each file is where its flag says."""
    rendering = extended("dev", components, tmp_path)

    made = configuration(rendering, tmp_path / "disk").settings.model_dump()

    assert {name: f"{tmp_path}/disk{path}" for name, path in settings.items()} == {
        name: made[name] for name in settings
    }


@cases
def test_secrets_are_files_that_can_change(components, settings, values, tmp_path):
    """Mounted as folders, read-only, open to the pod's group alone."""
    rendering = extended("dev", components, tmp_path)
    secrets = [volume for volume in rendering.pod["volumes"] if "secret" in volume]

    assert {0o440} == {volume["secret"]["defaultMode"] for volume in secrets}
    assert all(mount["readOnly"] and "subPath" not in mount for mount in rendering.container["volumeMounts"])


def test_the_address_of_redis_is_a_reference(tmp_path):
    """A password in it is in no manifest and no command line."""
    rendering = extended("dev", ["keys", "redis"], tmp_path)

    assert [
        {
            "name": "TOGETHERCHAT_REDIS_URL",
            "valueFrom": {"secretKeyRef": {"name": "togetherchat-redis", "key": "url"}},
        }
    ] == rendering.container["env"]
    assert REDIS == configuration(rendering, tmp_path / "disk").settings.redis_url
    assert [] == [word for word in rendering.container["args"] if "redis" in word]


@pytest.mark.parametrize(("components", "speaks"), [([], {"grpc", "http"}), (["tls"], {"https", "http"})])
def test_meshes_are_told_what_they_cannot_see_into(components, speaks, tmp_path):
    """With TLS no port of callers is called gRPC or HTTP; the scraper's stays as it is."""
    rendering = extended("dev", components, tmp_path)
    ports = [
        port
        for name in ("togetherchat", "togetherchat-headless")
        for port in rendering.one("Service", name)["spec"]["ports"]
    ]

    assert speaks == {port["appProtocol"] for port in ports}
    assert ["http"] == [port["appProtocol"] for port in ports if port["name"] == "admin"]


def test_open_access_waives_the_refusal(tmp_path):
    """The flag, and nothing else."""
    plain, opened = (extended("dev", names, tmp_path) for names in ([], ["open-access"]))

    assert meaning(plain) == meaning(opened)
    assert {"--allow-unauthenticated"} == set(opened.container["args"]) - set(plain.container["args"])


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"tls.secretName": "", "tls.clientCaConfigMap": "togetherchat-client-ca"}, "clientCaConfigMap"),
        ({"callers.secretName": "", **WITH_REDIS}, "quotaRedis"),
    ],
    ids=["mtls", "redis"],
)
def test_halves_are_refused(values, named):
    """What stands on something that is not there is refused before anything is sent."""
    with pytest.raises(RefusedError, match=named):
        helmed(values=values)
