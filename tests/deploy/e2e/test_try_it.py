"""The dev overlay, deployed by the commands of the guide."""

import json
import urllib.request

from rendered import run


def test_the_commands_of_the_guide_work(try_it_output):
    """The commands apply, roll out, forward ports, and call by gRPC and HTTP without changes."""
    assert "deployment.apps/togetherchat created" in try_it_output
    assert 'deployment "togetherchat" successfully rolled out' in try_it_output
    assert "FINISH_REASON_STOP" in try_it_output
    assert '"object":"list"' in try_it_output


def test_the_kubelet_probes_find_the_pod_ready(dev):
    """All probes use gRPC on the health listener, and the container has not restarted."""
    (pod,) = dev.pods().values()
    (container,) = pod["spec"]["containers"]
    (status,) = pod["status"]["containerStatuses"]

    assert {50052} == {
        container[f"{kind}Probe"]["grpc"]["port"] for kind in ("startup", "readiness", "liveness")
    }
    assert (True, True, 0) == (status["started"], status["ready"], status["restartCount"])


def test_the_address_of_the_service_serves_grpc_and_http(dev):
    """Kube-proxy forwards calls at the cluster IP to a pod."""
    dev.wait_until_reachable("togetherchat", 3000)
    address = dev.service("togetherchat")["spec"]["clusterIP"]
    request = {
        "model": "openai/gpt-oss-120b",
        "messages": [{"role": "ROLE_USER", "content": [{"text": "echo: yes"}]}],
    }
    method = "togetherchat.v1.ChatService/Complete"

    by_grpc = run("grpcurl", "-plaintext", "-d", json.dumps(request), f"{address}:50051", method)
    with urllib.request.urlopen(f"http://{address}:3000/v1/models", timeout=30) as response:
        by_http = json.load(response)

    assert "yes" == json.loads(by_grpc)["choices"][0]["message"]["content"][0]["text"]
    assert len(by_http["data"]) > 10
