"""What the server makes of the pod it is started in: the flags, the file and the secrets."""

import pytest
from rendered import configuration

from togetherchat_server.config import Settings
from togetherchat_server.domain.secret import KeyFile

# Beside propagation and drain, what it takes to close, flush and leave.
CLOSING_S = 5


def test_the_server_starts_with_the_settings_of_the_pod(rendering, tmp_path):
    """Every flag, key of the file and variable is one that the server knows."""
    settings = configuration(rendering, tmp_path).settings

    assert 1 == settings.workers
    assert "json" == settings.log_format


def test_the_settings_of_the_file_all_exist(rendering):
    """A key that is no setting stops the start; the check above would say so of a new one."""
    keys = {
        line.partition(" = ")[0] for line in rendering.one("ConfigMap")["data"]["settings.toml"].splitlines()
    }

    assert set() == {key for key in keys if key.isidentifier()} - set(Settings.model_fields)


def test_ports_are_those_that_the_server_listens_on(rendering, tmp_path):
    """Names and numbers agree with the addresses, whatever variables an image brings along."""
    image = {f"TOGETHERCHAT_{name}": "127.0.0.1:1" for name in ("LISTEN", "HTTP", "HEALTH", "ADMIN")}
    settings = configuration(rendering, tmp_path, image=image).settings
    ports = {it["name"]: it["containerPort"] for it in rendering.container["ports"]}

    listens = {
        "grpc": settings.grpc_listen,
        "http": settings.http_listen,
        "health": settings.health_listen,
        "admin": settings.admin_listen,
    }
    assert listens == {name: f"0.0.0.0:{port}" for name, port in ports.items()}


def test_services_lead_to_ports_that_have_that_name(rendering):
    """A target is a name of the container's ports, and callers find it under the same number."""
    ports = {it["name"]: it["containerPort"] for it in rendering.container["ports"]}

    for it in rendering.objects:
        if it["kind"] == "Service":
            assert {port["targetPort"]: port["port"] for port in it["spec"]["ports"]}.items() <= ports.items()


def test_the_pod_gets_longer_than_its_drain(rendering, tmp_path):
    """The kubelet kills nothing that is still allowed to finish."""
    settings = configuration(rendering, tmp_path).settings

    needed_s = settings.drain_delay_s + settings.drain_timeout_s + CLOSING_S
    assert rendering.pod["terminationGracePeriodSeconds"] >= needed_s


def test_balancers_have_time_to_notice(rendering, tmp_path):
    """New calls are taken for at least two periods of the readiness probe after the signal."""
    settings = configuration(rendering, tmp_path).settings
    period_s = rendering.container["readinessProbe"]["periodSeconds"]

    assert settings.drain_delay_s >= 2 * period_s


@pytest.mark.parametrize("name", ["production", "chart"])
def test_the_providers_key_comes_from_a_file_that_can_change(request, name, tmp_path):
    """By TOGETHER_API_KEY_FILE from a Secret mounted as a folder, so that a new key arrives without a restart."""
    rendering = request.getfixturevalue(name)
    (mount,) = (it for it in rendering.container["volumeMounts"] if it["name"] == "provider")

    assert isinstance(configuration(rendering, tmp_path).provider.key, KeyFile)
    assert "subPath" not in mount
    assert mount["readOnly"] is True
    assert ["TOGETHER_API_KEY_FILE"] == [it["name"] for it in rendering.container["env"]]


@pytest.mark.parametrize("name", ["production", "chart"])
def test_callers_of_production_have_keys_and_speak_tls(request, name, tmp_path):
    """So the server starts without being told that open access is meant."""
    made = configuration(request.getfixturevalue(name), tmp_path)

    assert f"{tmp_path}/etc/togetherchat-callers/keys" == made.settings.api_keys_file
    assert made.certificates is not None
    assert made.settings.allow_unauthenticated is False


@pytest.mark.parametrize("name", ["production", "chart"])
def test_production_describes_itself_to_nobody(request, name, tmp_path):
    """No reflection, no simulator."""
    settings = configuration(request.getfixturevalue(name), tmp_path).settings

    assert (False, False) == (settings.reflection, settings.sandbox)


@pytest.mark.parametrize("name", ["dev", "chart_dev"])
def test_dev_needs_no_key_and_answers_grpcurl(request, name, tmp_path):
    """Simulated answers, reflection, no Secret."""
    rendering = request.getfixturevalue(name)
    made = configuration(rendering, tmp_path)

    assert (True, True, None) == (made.settings.reflection, made.settings.sandbox, made.provider)
    assert [] == [volume for volume in rendering.pod["volumes"] if "secret" in volume]
