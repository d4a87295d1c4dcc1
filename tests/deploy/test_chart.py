"""The chart: the same outcome as the overlays, and values that are checked before anything is sent."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from rendered import CHART, NEWEST, RefusedError, configuration, helmed, meaning, run, tool

from togetherchat_server.config import Settings

SCHEMA = json.loads((CHART / "values.schema.json").read_text("utf-8"))
VALUES = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))


@pytest.mark.parametrize(("overlay", "of_chart"), [("production", "chart"), ("dev", "chart_dev")])
def test_it_renders_the_objects_of_the_overlay(request, overlay, of_chart):
    """Kind by kind and field by field, but for marks of who rendered them."""
    assert meaning(request.getfixturevalue(overlay)) == meaning(request.getfixturevalue(of_chart))


@pytest.mark.parametrize(("overlay", "of_chart"), [("production", "chart"), ("dev", "chart_dev")])
def test_the_server_understands_the_same_by_both(request, overlay, of_chart, tmp_path):
    """Flags and file come to the same settings."""
    made = [configuration(request.getfixturevalue(name), tmp_path) for name in (overlay, of_chart)]

    assert made[0].settings == made[1].settings


def test_helm_lint_is_content():
    """Strictly, which makes warnings errors."""
    for values in ([], ["--values", str(CHART / "values-dev.yaml")]):
        run(tool("helm"), "lint", "--strict", "--kube-version", NEWEST, str(CHART), *values)


def test_every_value_has_a_rule_and_a_default():
    """The schema and values.yaml name the same values; `settings` may hold any that the server knows."""
    assert set(VALUES) == set(SCHEMA["properties"]) - {"global"}
    for name, rule in SCHEMA["properties"].items():
        if rule.get("additionalProperties") is False and name != "resources":
            assert set(rule["properties"]) == set(VALUES[name]), name


def test_every_value_is_explained():
    """In values.yaml a comment stands above each group, or within it."""
    lines = (CHART / "values.yaml").read_text("utf-8").splitlines()
    groups = "\n".join(lines).split("\n\n")

    assert [] == [group for group in groups if "#" not in group and "{}" not in group]


def test_settings_that_the_chart_reads_are_settings_of_the_server():
    """A rule for a setting that the server does not know would be a trap."""
    assert set() == set(SCHEMA["properties"]["settings"]["properties"]) - set(Settings.model_fields)


@pytest.mark.parametrize(
    ("values", "named"),
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
        ({"resources.limits.memory": None}, "memory"),
        ({"provider.secretName": "Not A Name"}, "secretName"),
    ],
)
def test_wrong_values_are_refused_by_name(values, named):
    """Before anything reaches the cluster."""
    with pytest.raises(RefusedError, match=named):
        helmed(values=values)


def test_ports_follow_the_settings():
    """One place says them; the door that is off has none."""
    rendering = helmed(values={"settings.grpc_listen": "0.0.0.0:7000", "settings.http_listen": "off"})
    ports = {it["name"]: it["containerPort"] for it in rendering.container["ports"]}

    assert {"grpc": 7000, "health": 50052, "admin": 9464} == ports
    assert [7000] == [port["port"] for port in rendering.one("Service")["spec"]["ports"]]
    assert [7000] == [port["port"] for port in rendering.one("NetworkPolicy")["spec"]["ingress"][0]["ports"]]


def test_the_grace_period_follows_the_drain():
    """It is counted, not copied."""
    rendering = helmed(values={"settings.drain_timeout_s": 599.5, "settings.drain_delay_s": 20})

    assert 630 == rendering.pod["terminationGracePeriodSeconds"]


def test_a_changed_setting_changes_the_pods(chart):
    """By the checksum in their template."""
    changed = helmed(values={"settings.max_concurrent_calls": 100})

    annotations = [
        it.one("Deployment")["spec"]["template"]["metadata"]["annotations"] for it in (chart, changed)
    ]
    assert annotations[0] != annotations[1]


def test_two_releases_do_not_meet():
    """Names and selectors are a release's own."""
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
OWN = ["-cert", "caller.pem", "-key", "caller.key"]


@pytest.mark.parametrize(
    ("values", "flags"),
    [
        ([], [*TRUST, *KEY, *PROTOSET]),
        (["--set", "tls.clientCaConfigMap=authorities"], [*TRUST, *OWN, *KEY, *PROTOSET]),
        (["--set", "tls.secretName="], ["-plaintext", *KEY, *PROTOSET]),
        (["--values", str(CHART / "values-dev.yaml")], ["-plaintext"]),
    ],
    ids=["production", "mtls", "mesh", "dev"],
)
def test_the_notes_end_with_a_first_call(values, flags, tmp_path):
    """With what the installation asks for; without reflection by the committed descriptor set."""
    words = shlex.split(notes(tmp_path, *values).splitlines()[-1])

    assert ["grpcurl", *flags, "-d"] == words[: len(flags) + 2]
    assert ["localhost:50051", "togetherchat.v1.ChatService/Complete"] == words[-2:]


def notes(scratch, *values):
    """The notes as an object of a copy of the chart, for Helm renders them for a cluster alone."""
    chart = Path(shutil.copytree(CHART, scratch / "togetherchat"))
    lines = (chart / "templates/NOTES.txt").read_text("utf-8").splitlines()
    body = "\n".join(["kind: Notes", "text: |", *("  " + line for line in lines)])
    (chart / "templates/notes.yaml").write_text(body + "\n", encoding="utf-8")
    words = [
        "template",
        "togetherchat",
        str(chart),
        "--kube-version",
        NEWEST,
        "--show-only",
        "templates/notes.yaml",
    ]
    return yaml.safe_load(run(tool("helm"), *words, *values))["text"]
