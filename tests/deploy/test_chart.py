"""Tests of the chart: the same objects as the overlays, and values that the schema checks."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from rendered import CHART, NEWEST, ToolError, comparable, configuration, helmed, run, tool

from togetherchat_server.config import Settings

SCHEMA = json.loads((CHART / "values.schema.json").read_text("utf-8"))
VALUES = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))


@pytest.mark.parametrize(("overlay", "of_chart"), [("production", "chart"), ("dev", "chart_dev")])
def test_the_chart_renders_the_objects_of_the_overlay(request, overlay, of_chart):
    """All objects are equal, except labels that name the renderer."""
    assert comparable(request.getfixturevalue(overlay)) == comparable(request.getfixturevalue(of_chart))


@pytest.mark.parametrize(("overlay", "of_chart"), [("production", "chart"), ("dev", "chart_dev")])
def test_the_chart_and_the_overlay_have_equal_settings(request, overlay, of_chart, tmp_path):
    """Flags and file result in the same settings."""
    first, second = (configuration(request.getfixturevalue(name), tmp_path) for name in (overlay, of_chart))

    assert first.settings == second.settings


def test_helm_lint_passes():
    """`helm lint --strict` has no errors or warnings."""
    for values in ([], ["--values", str(CHART / "values-dev.yaml")]):
        run(tool("helm"), "lint", "--strict", "--kube-version", NEWEST, str(CHART), *values)


def test_every_value_has_a_schema_and_a_default():
    """The schema and values.yaml name the same values; `settings` may contain any setting of the server."""
    assert set(VALUES) == set(SCHEMA["properties"]) - {"global"}
    for name, rule in SCHEMA["properties"].items():
        if rule.get("additionalProperties") is False and name != "resources":
            assert set(rule["properties"]) == set(VALUES[name]), name


def test_every_value_is_described():
    """Each group of values.yaml has a comment."""
    lines = (CHART / "values.yaml").read_text("utf-8").splitlines()
    groups = "\n".join(lines).split("\n\n")

    assert [] == [group for group in groups if "#" not in group and "{}" not in group]


def test_settings_of_the_schema_are_settings_of_the_server():
    """The schema describes no setting that the server does not have."""
    assert set() == set(SCHEMA["properties"]["settings"]["properties"]) - set(Settings.model_fields)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"replica": 3}, "replica"),
        ({"replicas": "three"}, "replicas"),
        ({"image.repository": "togetherchat:latest"}, "repository"),
        ({"image.tag": "latest"}, "tag"),
        ({"settings.grpc_listen": "off"}, "listen"),
        ({"settings.health_listen": "off"}, "health"),
        ({"settings.workers": 4}, "workers"),
        ({"settings.drain_timeout_s": "a while"}, "drain_timeout_s"),
        ({"settings.Drain-S": 3}, "Drain-S"),
        ({"autoscaling.cpuPercent": 0}, "cpuPercent"),
        ({"networkPolicy.callers": None}, "callers"),
        ({"networkPolicy.prometheus.pods": {"app.kubernetes.io/name": None}}, "prometheus.pods"),
        ({"networkPolicy.provider": ["203.0.113.0/24"]}, "provider"),
        ({"networkPolicy.provider": [{"cidr": "api.example.com"}]}, "cidr"),
        ({"networkPolicy.egress": [{"ports": [{"port": 6379}]}]}, "egress"),
        ({"resources.limits.memory": None}, "memory"),
        ({"provider.secretName": "Not A Name"}, "secretName"),
    ],
)
def test_wrong_values_are_rejected_by_name(values, name):
    """Rendering fails and names the value."""
    with pytest.raises(ToolError, match=name):
        helmed(values=values)


def test_ports_are_computed_from_the_settings():
    """Ports are those of the settings; a disabled listener has no port."""
    rendering = helmed(values={"settings.grpc_listen": "0.0.0.0:7000", "settings.http_listen": "off"})
    ports = {it["name"]: it["containerPort"] for it in rendering.container["ports"]}

    assert {"grpc": 7000, "health": 50052, "admin": 9464} == ports
    assert [7000] == [port["port"] for port in rendering.one("Service")["spec"]["ports"]]
    assert [7000] == [port["port"] for port in rendering.one("NetworkPolicy")["spec"]["ingress"][0]["ports"]]


def test_the_grace_period_is_computed_from_the_drain():
    """The grace period is the sum of drain delay, drain timeout and 10 s, rounded up."""
    rendering = helmed(values={"settings.drain_timeout_s": 599.5, "settings.drain_delay_s": 20})

    assert 630 == rendering.pod["terminationGracePeriodSeconds"]


def test_a_changed_setting_changes_the_pod_template(chart):
    """The checksum annotation of the pod template changes."""
    changed = helmed(values={"settings.max_concurrent_calls": 100})

    annotations = [
        it.one("Deployment")["spec"]["template"]["metadata"]["annotations"] for it in (chart, changed)
    ]
    assert annotations[0] != annotations[1]


def test_two_releases_are_independent():
    """Names and selectors contain the name of the release."""
    text = run(tool("helm"), "template", "second", str(CHART), "--kube-version", NEWEST)
    objects = [it for it in yaml.safe_load_all(text) if it]

    assert all(it["metadata"]["name"].startswith("second") for it in objects)
    assert all(
        "second" == it["spec"]["selector"]["app.kubernetes.io/instance"]
        for it in objects
        if it["kind"] == "Service"
    )


PROTOSET = ["-protoset", "protos/togetherchat.binpb"]
TRUST = ["-cacert", "ca.crt", "-authority", "togetherchat.default.svc"]
KEY = ["-H", "authorization: Bearer $KEY"]
TOKENS = ["--set", "callers.secretName=,callers.tenants=[tenants.payments],serviceAccounts.enabled=true"]
OWN = ["-cert", "caller.pem", "-key", "caller.key"]


@pytest.mark.parametrize(
    ("values", "flags"),
    [
        ([], [*TRUST, *KEY, *PROTOSET]),
        (["--set", "tls.clientCaConfigMap=authorities"], [*TRUST, *OWN, *KEY, *PROTOSET]),
        (["--set", "tls.secretName="], ["-plaintext", *KEY, *PROTOSET]),
        (TOKENS, [*TRUST, *KEY, *PROTOSET]),
        (["--values", str(CHART / "values-dev.yaml")], ["-plaintext"]),
    ],
    ids=["production", "mtls", "mesh", "tokens", "dev"],
)
def test_the_notes_end_with_a_first_call(values, flags, tmp_path):
    """The grpcurl command has the flags that the installation requires, and the descriptor set without reflection."""
    command = shlex.split(notes(tmp_path, *values).splitlines()[-1])

    assert ["grpcurl", *flags, "-d"] == command[: len(flags) + 2]
    assert ["localhost:50051", "togetherchat.v1.ChatService/Complete"] == command[-2:]


def notes(scratch, *values):
    """Return the notes, rendered as an object of a copy of the chart: Helm renders notes only with a cluster."""
    chart = Path(shutil.copytree(CHART, scratch / "togetherchat"))
    lines = (chart / "templates/NOTES.txt").read_text("utf-8").splitlines()
    body = "\n".join(["kind: Notes", "text: |", *("  " + line for line in lines)])
    (chart / "templates/notes.yaml").write_text(body + "\n", encoding="utf-8")
    command = [
        "template",
        "togetherchat",
        str(chart),
        "--kube-version",
        NEWEST,
        "--show-only",
        "templates/notes.yaml",
    ]
    return yaml.safe_load(run(tool("helm"), *command, *values))["text"]
