"""A newcomer deploys the dev overlay with the lines of the guide."""

import json
import urllib.request

from rendered import run


def test_the_lines_of_the_guide_work(tried):
    """Applied, rolled out, forwarded, and called by gRPC and HTTP: pasted as they stand there."""
    assert "deployment.apps/togetherchat created" in tried
    assert 'deployment "togetherchat" successfully rolled out' in tried
    assert "FINISH_REASON_STOP" in tried
    assert '"object":"list"' in tried


def test_the_kubelet_finds_the_pod_ready_by_its_own_probes(dev):
    """By gRPC, on the listener that is for them; started once, and never since."""
    (pod,) = dev.pods().values()
    (container,) = pod["spec"]["containers"]
    (status,) = pod["status"]["containerStatuses"]

    assert {50052} == {
        container[f"{kind}Probe"]["grpc"]["port"] for kind in ("startup", "readiness", "liveness")
    }
    assert (True, True, 0) == (status["started"], status["ready"], status["restartCount"])


def test_calls_go_through_the_services_address(dev):
    """By gRPC and by HTTP, at the address that kube-proxy gives to a pod."""
    address = dev.service("togetherchat")["spec"]["clusterIP"]
    asked = {
        "model": "openai/gpt-oss-120b",
        "messages": [{"role": "ROLE_USER", "content": [{"text": "echo: yes"}]}],
    }
    method = "togetherchat.v1.ChatService/Complete"

    by_grpc = run("grpcurl", "-plaintext", "-d", json.dumps(asked), f"{address}:50051", method)
    with urllib.request.urlopen(f"http://{address}:3000/v1/models", timeout=30) as answer:
        by_http = json.load(answer)

    assert "yes" == json.loads(by_grpc)["choices"][0]["message"]["content"][0]["text"]
    assert len(by_http["data"]) > 10
