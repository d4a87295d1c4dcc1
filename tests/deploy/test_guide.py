"""What the operations guide names exists."""

import re
import shlex
import shutil
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from rendered import COMPONENTS, NEWEST, OVERLAYS, ROOT, configuration, kustomized, run

from togetherchat_server.config import Settings, SettingsError, read_configuration
from togetherchat_server.config.sources import flag_parser

GUIDE = (ROOT / "deploy/README.md").read_text("utf-8")
CODE = re.compile(r"`([^`\n]+)`")
FENCES = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
METRIC = re.compile(r"(?:togetherchat|process)(?:_[a-z]+)+")
REASON = re.compile(r"\b[A-Z]+(?:_[A-Z]+)+\b")
SERVER = ROOT / "server/togetherchat_server"
FAMILIES = SERVER / "telemetry/metrics/definitions.py"
NO_REASONS = {"NOT_SERVING"}
# Of Docker and BuildKit, in the part about the image.
ENGINES = {"--read-only", "--cap-drop all --security-opt no-new-privileges", "--output type"}


def spans():
    """What stands in backticks within sentences and tables."""
    return CODE.findall(FENCES.sub("", GUIDE))


def fenced(language):
    return [text for name, text in FENCES.findall(GUIDE) if name == language]


def test_flags_are_flags_of_the_server():
    """Each one that is named alone in backticks, but for --help."""
    named = {span.split("=")[0] for span in spans() if span.startswith("--")} - ENGINES
    known = {word for action in flag_parser()._actions for word in action.option_strings}

    assert set() == named - known


def test_settings_are_settings():
    """Names with a unit, such as drain_timeout_s."""
    named = {span.split(" = ")[0] for span in spans() if re.fullmatch(r"[a-z]+(_[a-z]+)*_s( = \d+)?", span)}

    assert {"drain_timeout_s", "drain_delay_s"} == named
    assert named <= set(Settings.model_fields)


def test_metrics_are_exported():
    """Each one is in the server's table of metrics."""
    table = FAMILIES.read_text("utf-8")

    named = {name for span in spans() for name in METRIC.findall(span)}
    assert set() == {name for name in named if f'"{name}"' not in table}
    assert "togetherchat_calls_in_flight" in named


def test_reasons_are_those_of_the_error_table():
    """Each reason in the table of incidents stands in the project's README."""
    table = (ROOT / "README.md").read_text("utf-8")
    incidents = GUIDE.partition("## Incidents")[2].partition("\n## ")[0]

    named = set(REASON.findall(incidents)) - NO_REASONS
    assert len(named) > 10
    assert set() == {reason for reason in named if f"| {reason} |" not in table}


def test_components_exist():
    """Each component that is named has a folder, and each folder is named."""
    named = {span.partition("/")[2] for span in spans() if span.startswith("components/")}

    assert {folder.name for folder in COMPONENTS.iterdir()} == named


def test_lines_name_files_that_exist():
    """Paths of this repository in the lines to copy, from its root."""
    words = [
        word
        for text in fenced("sh")
        for line in text.splitlines()
        for word in shlex.split(line, comments=True)
    ]
    paths = [word for word in words if word.startswith("deploy/")]

    assert len(paths) > 3
    assert [] == [path for path in paths if not (ROOT / path).exists()]


def test_the_overlay_of_ones_own_works(tmp_path):
    """The example renders, with its image and its flag."""
    (ours,) = (text for text in fenced("yaml") if "kind: Kustomization" in text)
    (tmp_path / "togetherchat").symlink_to(ROOT, target_is_directory=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/kustomization.yaml").write_text(ours, encoding="utf-8")

    rendering = kustomized(tmp_path / "mine")

    assert "registry.example.com/togetherchat:0.1.0" == rendering.container["image"]
    assert {"fast": "openai/gpt-oss-120b"} == configuration(rendering, tmp_path / "disk").settings.alias


def test_an_overlay_without_keys_and_tls_is_a_copy(tmp_path):
    """Beside ours, with other components: callers are somebody else's business then, and it starts."""
    tree = Path(shutil.copytree(OVERLAYS.parent, tmp_path / "kustomize"))
    copied = Path(shutil.copytree(tree / "overlays/production", tree / "overlays/ours"))
    file = copied / "kustomization.yaml"
    made = yaml.safe_load(file.read_text("utf-8"))
    made["components"] = ["../../components/open-access"]
    file.write_text(yaml.safe_dump(made), encoding="utf-8")

    settings = configuration(kustomized(copied), tmp_path / "disk").settings

    assert ("", "off", True) == (
        settings.api_keys_file,
        settings.tls_cert_file,
        settings.allow_unauthenticated,
    )


def test_the_adapters_rule_is_about_the_autoscalers_metric(production):
    """The example's series is the metric that the autoscaler asks for."""
    (rule,) = (yaml.safe_load(text)["rules"][0] for text in fenced("yaml") if "seriesQuery" in text)
    metrics = production.one("HorizontalPodAutoscaler")["spec"]["metrics"]

    assert [rule["seriesQuery"]] == [it["pods"]["metric"]["name"] for it in metrics if it["type"] == "Pods"]


def test_the_timeline_is_that_of_the_settings(production, tmp_path):
    """Seconds of the drain, as the table counts them."""
    settings = configuration(production, tmp_path).settings
    rows = re.findall(
        r"^\| (?:to )?(\d+)\b", GUIDE.partition("| second |")[2].partition("\n\n")[0], re.MULTILINE
    )

    over = settings.drain_delay_s + settings.drain_timeout_s - 1
    grace_s = production.pod["terminationGracePeriodSeconds"]
    assert [0, settings.drain_delay_s, over, over, grace_s] == [int(row) for row in rows]


def test_figures_of_sizing_are_those_of_the_autoscaler(production):
    """What the guide says of pods and calls is what the manifests say."""
    spec = production.one("HorizontalPodAutoscaler")["spec"]
    target = spec["metrics"][0]["pods"]["target"]["averageValue"]

    assert f"{spec['minReplicas']} to {spec['maxReplicas']} pods" in GUIDE
    assert f"aims for {target} a pod" in GUIDE
    assert f"{Settings().max_concurrent_calls:,} that one takes" in GUIDE


def test_the_alerts_become_an_object_of_the_operator():
    """The guide's line puts the rules, as they are checked elsewhere, into a PrometheusRule."""
    (line,) = (text.strip() for text in fenced("sh") if "PrometheusRule" in text)
    shown = run("bash", "-c", f"cd {ROOT}; kubectl() {{ cat; }}; {line}")

    made = yaml.safe_load(shown)
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text("utf-8"))
    assert ("monitoring.coreos.com/v1", "PrometheusRule") == (made["apiVersion"], made["kind"])
    assert rules == made["spec"]


def test_the_certificate_is_for_the_names_that_callers_use(production):
    """Each Service by its full name, in the Secret that the pod mounts."""
    (made,) = (yaml.safe_load(text) for text in fenced("yaml") if "kind: Certificate" in text)
    volumes = {it["name"]: it["secret"] for it in production.pod["volumes"] if "secret" in it}
    services = {it["metadata"]["name"] for it in production.objects if it["kind"] == "Service"}

    assert volumes["tls"]["secretName"] == made["spec"]["secretName"]
    assert {f"{name}.togetherchat.svc.cluster.local" for name in services} <= set(made["spec"]["dnsNames"])
    assert f"-authority {made['spec']['dnsNames'][-1]} " in GUIDE


def test_the_secrets_are_those_that_the_pod_mounts(production):
    """The guide makes each Secret, with the entries that become files."""
    made = {
        words[words.index("secret") + 2]: {
            word.partition("=")[2].partition("=")[0] for word in words if "--from-file" in word
        }
        for text in fenced("sh")
        for line in text.splitlines()
        if "create secret" in line
        for words in [shlex.split(line, comments=True)]
    }
    mounted = [it["secret"] for it in production.pod["volumes"] if "secret" in it]

    assert {it["secretName"] for it in mounted} <= set(made)
    for it in mounted:
        entries = made[it["secretName"]]
        assert entries in (set(), {item["key"] for item in it["items"]}), it["secretName"]


def test_the_way_to_redis_starts_at_our_pods(production):
    """The example is valid, and about the pods of the Deployment."""
    (policy,) = (yaml.safe_load(text) for text in fenced("yaml") if "togetherchat-to-redis" in text)
    labels = production.one("Deployment")["spec"]["template"]["metadata"]["labels"]

    kubernetes_validate.validate(policy, NEWEST.rpartition(".")[0], strict=True)
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert production.one("NetworkPolicy")["metadata"]["namespace"] == policy["metadata"]["namespace"]


def test_the_refusal_is_quoted():
    """In the words of the server that starts with nothing that keeps strangers out."""
    with pytest.raises(SettingsError) as refused:
        read_configuration(["--grpc-listen=0.0.0.0:50051"], {"TOGETHER_API_KEY": "a-key"})

    assert f"togetherchat-server: {refused.value}" in " ".join(GUIDE.split())
