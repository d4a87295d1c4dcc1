"""Tests that everything that the operations guide names exists."""

import re
import shlex
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml
from network import CALLER, DNS, NAME, PROMETHEUS, PROVIDER, Peer, admits, pod, reaches
from rendered import COMPONENTS, NEWEST, OVERLAYS, ROOT, Rendering, configuration, helmed, kustomized, run

from togetherchat_server.config import Settings, SettingsError, read_configuration
from togetherchat_server.config.provider import TOGETHER_BASE_URL
from togetherchat_server.config.sources import flag_parser
from togetherchat_server.tenants.tenants_file import read_tenants

GUIDE = (ROOT / "deploy/README.md").read_text("utf-8")
CODE = re.compile(r"`([^`\n]+)`")
FENCES = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
METRIC = re.compile(r"(?:togetherchat|process)(?:_[a-z]+)+")
REASON = re.compile(r"\b[A-Z]+(?:_[A-Z]+)+\b")
SERVER = ROOT / "server/togetherchat_server"
METRIC_DEFINITIONS = SERVER / "telemetry/metrics/definitions.py"
NOT_REASONS = {"NOT_SERVING"}
# Flags of Docker and BuildKit, in the section about the image.
ENGINE_FLAGS = {"--read-only", "--cap-drop all --security-opt no-new-privileges", "--output type"}


def code_spans():
    """Return the text in backticks of sentences and tables."""
    return CODE.findall(FENCES.sub("", GUIDE))


def fenced(language):
    return [text for name, text in FENCES.findall(GUIDE) if name == language]


def example(word):
    """Return the only YAML example that contains a word."""
    (text,) = (text for text in fenced("yaml") if word in text)
    return text


def with_patches(text, scratch) -> Rendering:
    """Render the example overlay of the guide with the patches of another example."""
    overlay = yaml.safe_load(example("kind: Kustomization"))
    (scratch / "togetherchat").symlink_to(ROOT, target_is_directory=True)
    (scratch / "mine").mkdir()
    more = {**overlay, **yaml.safe_load(text)}
    (scratch / "mine/kustomization.yaml").write_text(yaml.safe_dump(more), encoding="utf-8")
    return kustomized(scratch / "mine")


def test_flags_are_flags_of_the_server():
    """Every flag in backticks exists."""
    named = {span.split("=")[0] for span in code_spans() if span.startswith("--")} - ENGINE_FLAGS
    known = {word for action in flag_parser()._actions for word in action.option_strings}

    assert set() == named - known


def test_settings_are_settings_of_the_server():
    """Every name with a unit, such as drain_timeout_s, is a setting."""
    named = {
        span.split(" = ")[0] for span in code_spans() if re.fullmatch(r"[a-z]+(_[a-z]+)*_s( = \d+)?", span)
    }

    assert {"drain_timeout_s", "drain_delay_s"} == named
    assert named <= set(Settings.model_fields)


def test_metrics_are_exported():
    """Every metric is in the server's table of metrics."""
    table = METRIC_DEFINITIONS.read_text("utf-8")

    named = {name for span in code_spans() for name in METRIC.findall(span)}
    assert set() == {name for name in named if f'"{name}"' not in table}
    assert "togetherchat_calls_in_flight" in named


def test_reasons_are_those_of_the_error_table():
    """Every reason in the table of incidents is in the project's README."""
    table = (ROOT / "README.md").read_text("utf-8")
    incidents = GUIDE.partition("## Incidents")[2].partition("\n## ")[0]

    named = set(REASON.findall(incidents)) - NOT_REASONS
    assert len(named) > 10
    assert set() == {reason for reason in named if f"| {reason} |" not in table}


def test_components_exist():
    """The guide names exactly the components that exist."""
    named = {span.partition("/")[2] for span in code_spans() if span.startswith("components/")}

    assert {folder.name for folder in COMPONENTS.iterdir()} == named


def test_commands_name_files_that_exist():
    """Every path of the repository in a command exists."""
    words = [
        word
        for text in fenced("sh")
        for line in text.splitlines()
        for word in shlex.split(line, comments=True)
    ]
    paths = [word for word in words if word.startswith("deploy/")]

    assert len(paths) > 3
    assert [] == [path for path in paths if not (ROOT / path).exists()]


def test_the_example_overlay_renders(tmp_path):
    """The example has its image and its flag."""
    rendering = with_patches(example("kind: Kustomization"), tmp_path)

    assert "registry.example.com/togetherchat:0.1.0" == rendering.container["image"]
    assert {"fast": "openai/gpt-oss-120b"} == configuration(rendering, tmp_path / "disk").settings.alias


def test_a_copied_overlay_without_keys_and_tls_renders(tmp_path):
    """The server starts with a copy of the production overlay whose only component is open-access."""
    tree = Path(shutil.copytree(OVERLAYS.parent, tmp_path / "kustomize"))
    copied = Path(shutil.copytree(tree / "overlays/production", tree / "overlays/ours"))
    file = copied / "kustomization.yaml"
    kustomization = yaml.safe_load(file.read_text("utf-8"))
    kustomization["components"] = ["../../components/open-access"]
    file.write_text(yaml.safe_dump(kustomization), encoding="utf-8")

    settings = configuration(kustomized(copied), tmp_path / "disk").settings

    assert (None, None, True) == (
        settings.api_keys_file,
        settings.tls_cert_file,
        settings.allow_unauthenticated,
    )


def test_the_adapters_rule_has_the_autoscalers_metric(production):
    """The series of the example is the metric of the autoscaler."""
    (rule,) = (yaml.safe_load(text)["rules"][0] for text in fenced("yaml") if "seriesQuery" in text)
    metrics = production.one("HorizontalPodAutoscaler")["spec"]["metrics"]

    assert [rule["seriesQuery"]] == [it["pods"]["metric"]["name"] for it in metrics if it["type"] == "Pods"]


def test_the_drain_table_has_the_seconds_of_the_settings(production, tmp_path):
    """The seconds of the table are computed from drain_delay_s and drain_timeout_s."""
    settings = configuration(production, tmp_path).settings
    rows = re.findall(
        r"^\| (?:to )?(\d+)\b", GUIDE.partition("| second |")[2].partition("\n\n")[0], re.MULTILINE
    )

    drained_s = settings.drain_delay_s + settings.drain_timeout_s - 1
    grace_s = production.pod["terminationGracePeriodSeconds"]
    assert [0, settings.drain_delay_s, drained_s, drained_s, grace_s] == [int(row) for row in rows]


def test_sizing_has_the_figures_of_the_autoscaler(production):
    """The numbers of pods and calls are those of the manifests."""
    spec = production.one("HorizontalPodAutoscaler")["spec"]
    target = spec["metrics"][0]["pods"]["target"]["averageValue"]

    assert f"{spec['minReplicas']} to {spec['maxReplicas']} pods" in GUIDE
    assert f"targets {target} calls per pod" in GUIDE
    assert f"limit of {Settings().max_concurrent_calls:,} (`--max-concurrent-calls`)" in GUIDE


def test_the_alerts_become_a_prometheus_rule():
    """The command of the guide wraps the alert rules into a PrometheusRule."""
    (line,) = (text.strip() for text in fenced("sh") if "PrometheusRule" in text)
    shown = run("bash", "-c", f"cd {ROOT}; kubectl() {{ cat; }}; {line}")

    rule = yaml.safe_load(shown)
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text("utf-8"))
    assert ("monitoring.coreos.com/v1", "PrometheusRule") == (rule["apiVersion"], rule["kind"])
    assert rules == rule["spec"]


def test_the_certificate_has_the_names_of_the_services(production):
    """The certificate has the full name of each Service, and its Secret is the one that the pod mounts."""
    (certificate,) = (yaml.safe_load(text) for text in fenced("yaml") if "kind: Certificate" in text)
    volumes = {it["name"]: it["secret"] for it in production.pod["volumes"] if "secret" in it}
    services = {it["metadata"]["name"] for it in production.objects if it["kind"] == "Service"}

    assert volumes["tls"]["secretName"] == certificate["spec"]["secretName"]
    names = certificate["spec"]["dnsNames"]
    assert {f"{name}.togetherchat.svc.cluster.local" for name in services} <= set(names)
    assert f"-authority {names[-1]} " in GUIDE


def test_the_commands_create_the_secrets_that_the_pod_mounts(production):
    """The guide creates each Secret with the entries that the pod mounts."""
    created = {
        words[words.index("secret") + 2]: {
            word.partition("=")[2].partition("=")[0] for word in words if "--from-file" in word
        }
        for text in fenced("sh")
        for line in text.splitlines()
        if "create secret" in line
        for words in [shlex.split(line, comments=True)]
    }
    mounted = [it["secret"] for it in production.pod["volumes"] if "secret" in it]

    assert {it["secretName"] for it in mounted} <= set(created)
    for it in mounted:
        entries = created[it["secretName"]]
        assert entries in (set(), {item["key"] for item in it["items"]}), it["secretName"]


def test_the_policy_for_redis_selects_our_pods(production):
    """The example is valid and selects the pods of the Deployment."""
    (policy,) = (yaml.safe_load(text) for text in fenced("yaml") if "togetherchat-to-redis" in text)
    labels = production.one("Deployment")["spec"]["template"]["metadata"]["labels"]

    kubernetes_validate.validate(policy, NEWEST.rpartition(".")[0], strict=True)
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert production.one("NetworkPolicy")["metadata"]["namespace"] == policy["metadata"]["namespace"]


def test_the_egress_is_narrowed_to_the_gateway_of_the_example(tmp_path):
    """With kustomize and with Helm, no address but that of the gateway and the DNS is reached."""
    gateway = Peer(address="203.0.113.10")
    (tmp_path / "values.yaml").write_text(example("provider: []"), encoding="utf-8")
    by_kustomize = with_patches(example("203.0.113.10/32}}]}"), tmp_path).one("NetworkPolicy")
    by_helm = helmed(tmp_path / "values.yaml").one("NetworkPolicy")

    assert by_kustomize["spec"]["egress"] == by_helm["spec"]["egress"]
    for policy in (by_kustomize, by_helm):
        assert [8443] == [port for port in (443, 8443) if reaches(policy, gateway, port)]
        assert not reaches(policy, PROVIDER, 443)
        assert reaches(policy, DNS, 53, "UDP")


def test_tokens_are_verified_with_the_issuer_of_the_example(tmp_path):
    """The issuer of the example wins over that of the component, and the example has the right namespace."""
    text = example("components/service-accounts").replace("<issuer>", "https://issuer.example.com")
    rendering = with_patches(text, tmp_path)
    tenants = {"tenants.toml": fenced("toml")[0]}

    settings = configuration(rendering, tmp_path / "disk", secrets=tenants).settings

    subjects = read_tenants(Path(settings.tenants_file)).subjects
    caller = yaml.safe_load(example("# caller.yaml"))
    account = f"{caller['metadata']['namespace']}:{caller['spec']['serviceAccountName']}"
    assert "payments" == subjects.tenant_of((f"system:serviceaccount:{account}",))
    assert "https://issuer.example.com" == settings.jwt_issuer
    assert {"togetherchat"} == {
        it["metadata"]["namespace"]
        for it in rendering.objects
        if it["kind"] in {"Deployment", "ServiceAccount"}
    }


def test_the_policy_for_the_api_server_opens_its_address_alone(production):
    """The example is valid, selects the pods, and reaches one address on one port."""
    policy = yaml.safe_load(example("togetherchat-to-api-server").replace("<address>", "10.0.0.10"))
    labels = production.one("Deployment")["spec"]["template"]["metadata"]["labels"]

    kubernetes_validate.validate(policy, NEWEST.rpartition(".")[0], strict=True)
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert [6443] == [port for port in (443, 6443) if reaches(policy, Peer(address="10.0.0.10"), port)]
    assert not reaches(policy, Peer(address="10.0.0.11"), 6443)


def test_the_caller_of_the_example_has_a_token_with_the_audience_of_the_service(tmp_path):
    """The pod is valid. Its token has the audience of the component, and the names of its files match."""
    caller = yaml.safe_load(example("# caller.yaml"))
    (volume,) = caller["spec"]["volumes"]
    (container,) = caller["spec"]["containers"]
    (mount,) = container["volumeMounts"]
    token = volume["projected"]["sources"][0]["serviceAccountToken"]
    service = with_patches(example("components/service-accounts"), tmp_path)

    kubernetes_validate.validate(caller, NEWEST.rpartition(".")[0], strict=True)
    assert f"--jwt-audience={token['audience']}" in service.container["args"]
    (program,) = container["args"]
    compile(program, "caller.yaml", "exec")
    assert f'"{mount["mountPath"]}"' in program
    assert f'files / "{token["path"]}"' in program
    assert f'"{mount["mountPath"]}/{token["path"]}"' in fenced("go")[0]
    assert service.container["image"].partition("/")[2] == container["image"]


def test_the_go_lines_compile(tmp_path):
    """The lines of a Go caller, as a function with the Go client, pass `go vet`."""
    body = "\n".join("\t" + line for line in fenced("go")[0].splitlines())
    (tmp_path / "main.go").write_text(GO.replace("BODY", body), encoding="utf-8")

    run("go", "-C", str(ROOT / "clients/go"), "vet", str(tmp_path / "main.go"))


GO = """package main

import (
	"context"
	"os"

	"github.com/togetherchat/togetherchat/clients/go/togetherchat"
	togetherchatv1 "github.com/togetherchat/togetherchat/clients/go/togetherchat/v1"
)

func complete(
	ctx context.Context, client *togetherchat.Client, request *togetherchatv1.CompleteRequest,
) (*togetherchatv1.CompleteResponse, error) {
BODY
}

func main() { _ = complete }
"""


def test_the_name_of_the_provider_is_that_of_the_server():
    """The host that the guide allows by name is that of the default base URL."""
    assert f"allow\n`{urlsplit(TOGETHER_BASE_URL).hostname}` there" in GUIDE


def test_the_admin_port_is_opened_to_the_agent_of_the_example(tmp_path):
    """The example replaces Prometheus, and leaves the rule of callers as it is."""
    policy = with_patches(example("observability"), tmp_path).one("NetworkPolicy")
    agent = pod("observability", {NAME: "alloy"})

    assert (True, False) == (admits(policy, agent, 9464), admits(policy, PROMETHEUS, 9464))
    assert (True, False) == (admits(policy, CALLER, 50051), admits(policy, CALLER, 9464))


def test_the_startup_error_is_quoted():
    """The guide quotes the error of a server that would start without authentication."""
    with pytest.raises(SettingsError) as error:
        read_configuration(["--grpc-listen=[::]:50051"], {"TOGETHER_API_KEY": "a-key"})

    assert f"togetherchat-server: {error.value}" in " ".join(GUIDE.split())
