"""Tests of the pod's flags, settings file and secrets with the server's own parser."""

import pytest
from rendered import configuration

from togetherchat_server.config import Settings
from togetherchat_server.config.reloading_file import ReloadingFile

# The time to close connections, flush and exit after the drain.
CLOSING_S = 5
LISTENERS = ("GRPC_LISTEN", "HTTP_LISTEN", "HEALTH_LISTEN", "ADMIN_LISTEN")


def test_the_server_accepts_the_settings_of_the_pod(rendering, tmp_path):
    """The server knows every flag, every key of the file and every variable."""
    settings = configuration(rendering, tmp_path).settings

    assert 1 == settings.workers
    assert "json" == settings.log_format


def test_the_file_contains_only_settings(rendering):
    """Every key of the file is a setting of the server."""
    keys = {
        line.partition(" = ")[0] for line in rendering.one("ConfigMap")["data"]["settings.toml"].splitlines()
    }

    assert set() == {key for key in keys if key.isidentifier()} - set(Settings.model_fields)


def test_container_ports_are_those_of_the_listeners(rendering, tmp_path):
    """Names and numbers match the addresses, whatever variables the image has."""
    image = {f"TOGETHERCHAT_{name}": "127.0.0.1:1" for name in LISTENERS}
    settings = configuration(rendering, tmp_path, image=image).settings
    ports = {it["name"]: it["containerPort"] for it in rendering.container["ports"]}

    addresses = {
        "grpc": settings.grpc_listen,
        "http": settings.http_listen,
        "health": settings.health_listen,
        "admin": settings.admin_listen,
    }
    assert addresses == {name: f"[::]:{port}" for name, port in ports.items()}


def test_services_target_ports_of_the_container(rendering):
    """A target port is a name of a container port, with the same number."""
    ports = {it["name"]: it["containerPort"] for it in rendering.container["ports"]}

    for it in rendering.objects:
        if it["kind"] == "Service":
            assert {port["targetPort"]: port["port"] for port in it["spec"]["ports"]}.items() <= ports.items()


def test_the_grace_period_is_longer_than_the_drain(rendering, tmp_path):
    """The kubelet does not kill a pod that is still draining."""
    settings = configuration(rendering, tmp_path).settings

    needed_s = settings.drain_delay_s + settings.drain_timeout_s + CLOSING_S
    assert rendering.pod["terminationGracePeriodSeconds"] >= needed_s


def test_the_drain_delay_covers_two_readiness_probes(rendering, tmp_path):
    """After SIGTERM, new calls are accepted for at least two periods of the readiness probe."""
    settings = configuration(rendering, tmp_path).settings
    period_s = rendering.container["readinessProbe"]["periodSeconds"]

    assert settings.drain_delay_s >= 2 * period_s


@pytest.mark.parametrize("name", ["production", "chart"])
def test_the_providers_key_is_a_file_that_can_change(request, name, tmp_path):
    """TOGETHER_API_KEY_FILE names a file of a Secret that is mounted as a folder: a new key needs no restart."""
    rendering = request.getfixturevalue(name)
    (mount,) = (it for it in rendering.container["volumeMounts"] if it["name"] == "provider")

    assert isinstance(configuration(rendering, tmp_path).provider.key, ReloadingFile)
    assert "subPath" not in mount
    assert mount["readOnly"] is True
    assert ["TOGETHER_API_KEY_FILE"] == [it["name"] for it in rendering.container["env"]]


@pytest.mark.parametrize("name", ["production", "chart"])
def test_production_requires_keys_and_tls(request, name, tmp_path):
    """The server starts without --allow-unauthenticated."""
    parsed = configuration(request.getfixturevalue(name), tmp_path)

    assert f"{tmp_path}/etc/togetherchat-callers/keys" == parsed.settings.api_keys_file
    assert parsed.certificates is not None
    assert parsed.settings.allow_unauthenticated is False


@pytest.mark.parametrize("name", ["production", "chart"])
def test_production_has_neither_reflection_nor_sandbox(request, name, tmp_path):
    """Reflection and the sandbox are off."""
    settings = configuration(request.getfixturevalue(name), tmp_path).settings

    assert (False, False) == (settings.reflection, settings.sandbox)


@pytest.mark.parametrize("name", ["dev", "chart_dev"])
def test_dev_needs_no_key_and_supports_grpcurl(request, name, tmp_path):
    """The sandbox and reflection are on, and no Secret is mounted."""
    rendering = request.getfixturevalue(name)
    parsed = configuration(rendering, tmp_path)

    assert (True, True, None) == (parsed.settings.reflection, parsed.settings.sandbox, parsed.provider)
    assert [] == [volume for volume in rendering.pod["volumes"] if "secret" in volume]
