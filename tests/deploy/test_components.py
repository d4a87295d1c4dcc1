"""What can be added to an overlay, and the values of the chart that add the same."""

import pytest
from rendered import RefusedError, configuration, extended, helmed, meaning

from support.certificates import make_certificate
from togetherchat_server.config import Settings, SettingsError

KEYS = {
    "keys": "/etc/togetherchat-callers/keys",
    "tenants": "/etc/togetherchat-callers/tenants.toml",
}
TLS = {"tls_cert": "/etc/togetherchat-tls/tls.crt", "tls_key": "/etc/togetherchat-tls/tls.key"}
MTLS = {**TLS, "tls_client_ca": "/etc/togetherchat-client-ca/ca.crt"}
CASES = [
    (["keys"], KEYS, {"callers.secretName": "togetherchat-callers"}),
    (["tls"], TLS, {"tls.secretName": "togetherchat-tls"}),
    (
        ["tls", "mtls"],
        MTLS,
        {"tls.secretName": "togetherchat-tls", "tls.clientCaConfigMap": "togetherchat-client-ca"},
    ),
]
cases = pytest.mark.parametrize(("components", "settings", "values"), CASES, ids=["keys", "tls", "mtls"])


@cases
def test_the_chart_adds_the_same(components, settings, values, tmp_path):
    """The same volumes and mounts, and the same flags."""
    by_kustomize, by_helm = extended("production", components, tmp_path), helmed(values=values)
    flags = {f"--{name.replace('_', '-')}={path}" for name, path in settings.items()}

    assert meaning(by_kustomize) == meaning(by_helm)
    assert flags <= set(by_kustomize.container["args"])
    assert flags <= set(by_helm.container["args"])


@cases
def test_the_server_reads_what_is_mounted(components, settings, values, tmp_path):
    """Each file is where its flag says. A server without that flag says so, and does not start."""
    rendering = extended("production", components, tmp_path)
    certificate = make_certificate(tmp_path)
    held = {
        "tls.crt": certificate.certificate_file.read_text("ascii"),
        "tls.key": certificate.key_file.read_text("ascii"),
        "ca.crt": certificate.certificate_file.read_text("ascii"),
    }

    if set(settings) <= set(Settings.model_fields):
        made = configuration(rendering, tmp_path / "disk", held=held).settings.model_dump()
        assert {name: f"{tmp_path}/disk{path}" for name, path in settings.items()} == {
            name: made[name] for name in settings
        }
    else:
        with pytest.raises(SettingsError, match="--"):
            configuration(rendering, tmp_path / "disk", held=held)


@cases
def test_secrets_are_files_that_can_change(components, settings, values, tmp_path):
    """Mounted as folders, read-only, open to the pod's group alone; nothing of them in variables."""
    rendering = extended("production", components, tmp_path)
    secrets = [volume for volume in rendering.pod["volumes"] if "secret" in volume]

    assert {0o440} == {volume["secret"]["defaultMode"] for volume in secrets}
    assert all(mount["readOnly"] and "subPath" not in mount for mount in rendering.container["volumeMounts"])
    assert {"TOGETHER_API_KEY_FILE"} == {it["name"] for it in rendering.container["env"]}


def test_client_certificates_need_a_certificate_of_ours():
    """Half of mTLS is refused before anything is sent."""
    with pytest.raises(RefusedError, match="clientCaConfigMap"):
        helmed(values={"tls.clientCaConfigMap": "togetherchat-client-ca"})
