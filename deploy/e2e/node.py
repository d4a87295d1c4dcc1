"""A Kubernetes of one node: its parts are started in order, a command is run, and they are ended.

Owns processes, their words and their files. Runs in namespaces of its own (`inside`), so that it takes
fixed addresses and folders; refuses to know what is deployed.
"""

import json
import os
import secrets
import sys
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from part import LOGS, answers, eventually, known, prints, running, say, status_of

ADDRESS = os.environ["E2E_ADDRESS"]
TOOLS = Path(os.environ["E2E_TOOLS"])
CGROUP = os.environ["E2E_CGROUP"]
STATE = Path("/run/e2e")
ETCD = "http://127.0.0.1:2379"
API = f"https://{ADDRESS}:6443"
CONTAINERD = "/run/containerd/containerd.sock"
SERVICES, PODS = "10.96.0.0/16", "10.98.0.0/24"

# Who each part is to the API server; the last is whoever runs the command.
WHO = {
    "kube-controller-manager": ("system:kube-controller-manager", ""),
    "kube-scheduler": ("system:kube-scheduler", ""),
    "kube-proxy": ("system:kube-proxy", ""),
    "kubelet": ("system:node:node", "system:nodes"),
    "admin": ("admin", "system:masters"),
}


def main(command: Sequence[str]) -> int:
    """Run it in the node; its exit status."""
    STATE.mkdir()
    with ExitStack() as parts:
        for start in (etcd, api_server, controllers, containerd, names, kubelet, proxy):
            say(f"starting {start.__name__.replace('_', ' ')}")
            parts.enter_context(start())
        version = json.loads(_kubectl("get", "--raw", "/version"))["gitVersion"]
        say(f"Kubernetes {version} is up; logs are in {LOGS}")
        return status_of(*command, KUBECONFIG=str(_access("admin")))


@contextmanager
def etcd() -> Generator[None]:
    words = ["--data-dir", str(STATE / "etcd"), "--unsafe-no-fsync"]
    with running("etcd", *words, "--listen-client-urls", ETCD, "--advertise-client-urls", ETCD) as alive:
        eventually("etcd serves", lambda: answers(f"{ETCD}/health"), alive)
        yield


@contextmanager
def api_server() -> Generator[None]:
    tokens = {name: secrets.token_hex(16) for name in WHO}
    rows = [f'{tokens[name]},{user},{user},"{group}"\n' for name, (user, group) in WHO.items()]
    _write("tokens.csv", "".join(rows))
    key = STATE / "accounts.pem"
    prints("openssl", "genrsa", "-out", str(key), "2048")
    words = [
        *("--etcd-servers", ETCD, "--cert-dir", str(STATE / "api"), "--advertise-address", ADDRESS),
        *("--token-auth-file", str(STATE / "tokens.csv"), "--authorization-mode", "Node,RBAC"),
        *("--kubelet-preferred-address-types", "InternalIP"),
        *("--enable-admission-plugins", "NodeRestriction", "--service-cluster-ip-range", SERVICES),
        *("--service-account-issuer", "https://kubernetes.default.svc"),
        *("--service-account-signing-key-file", str(key), "--service-account-key-file", str(key)),
    ]
    certificate = STATE / "api/apiserver.crt"
    with running("kube-apiserver", *words) as alive:
        eventually("the API server has a certificate", certificate.exists, alive)
        for name, token in tokens.items():
            _write(f"{name}.json", json.dumps(_kubeconfig(certificate, token)))
        eventually("the API server is ready", lambda: _kubectl("get", "--raw", "/readyz") == "ok", alive)
        yield


@contextmanager
def controllers() -> Generator[None]:
    """Those that make pods of Deployments, and the one that gives pods to nodes."""
    key = str(STATE / "accounts.pem")
    manager = ("--use-service-account-credentials", "--service-account-private-key-file", key)
    with (
        running("kube-controller-manager", *_as("kube-controller-manager"), *manager),
        running("kube-scheduler", *_as("kube-scheduler")),
    ):
        yield


@contextmanager
def containerd() -> Generator[None]:
    """With the images that `parts` has made: there is no registry."""
    nets = {"cniVersion": "1.0.0", "name": "pods", "plugins": [_pods_network(), {"type": "portmap"}]}
    _write("cni/pods.conflist", json.dumps(nets))
    ctr = ("ctr", "--address", CONTAINERD, "--namespace", "k8s.io")
    with running("containerd", "--config", str(_write("containerd.toml", CONTAINERD_SETTINGS))) as alive:
        eventually("containerd serves", lambda: prints(*ctr, "version"), alive)
        for image in sorted((TOOLS / "images").glob("*.tar")):
            eventually(
                f"{image.name} is imported", lambda image=image: prints(*ctr, "images", "import", str(image))
            )
        yield


CONTAINERD_SETTINGS = f"""
version = 3
[grpc]
address = "{CONTAINERD}"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "localhost/pause:e2e"
[plugins."io.containerd.cri.v1.runtime"]
# Root without CAP_SYS_RESOURCE, as in a container, may not go below its own.
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{STATE}/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""


@contextmanager
def names() -> Generator[None]:
    """The cluster's DNS, beside the kubelet rather than in a pod."""
    access = f"{{\n kubeconfig {STATE}/admin.json\n ttl 5\n }}"
    zone = f"cluster.local:53 {{\n bind {ADDRESS}\n errors\n kubernetes {access}\n}}\n"
    with running("dns", "-conf", str(_write("Corefile", zone))) as alive:
        eventually("names are known", lambda: known("kubernetes.default.svc.cluster.local"), alive)
        yield


@contextmanager
def kubelet() -> Generator[None]:
    for hierarchy in _cgroup_hierarchies():
        (hierarchy / CGROUP).mkdir()
    settings = {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDomain": "cluster.local",
        "clusterDNS": [ADDRESS],
        # Nobody but the API server reaches it.
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        # Pods are not to leave because others fill this machine's disk.
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
    }
    words = ["--config", str(_write("kubelet-settings.json", json.dumps(settings)))]
    words += ["--hostname-override", "node", "--node-ip", ADDRESS]
    with running("kubelet", *_as("kubelet"), *words) as alive:
        eventually("the node is ready", _node_is_ready, alive)
        yield


@contextmanager
def proxy() -> Generator[None]:
    settings = {
        "kind": "KubeProxyConfiguration",
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "mode": "nftables",
        "clusterCIDR": PODS,
        "hostnameOverride": "node",
        "clientConnection": {"kubeconfig": str(_access("kube-proxy"))},
        # What is counted for the whole machine stays as it is.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
    with running("kube-proxy", "--config", str(_write("proxy-settings.json", json.dumps(settings)))):
        yield


def _cgroup_hierarchies() -> list[Path]:
    """One for each controller, or with version 2 one for all."""
    top = Path("/sys/fs/cgroup")
    return [top] if (top / "cgroup.controllers").exists() else [it for it in top.iterdir() if it.is_dir()]


def _pods_network() -> dict[str, object]:
    """Each pod has a cable of its own to the node, which routes."""
    addresses = {"type": "host-local", "ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}]}
    return {"type": "ptp", "ipMasq": False, "ipam": addresses}


def _node_is_ready() -> bool:
    path = 'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}'
    return _kubectl("get", "nodes", "--output", path) == "True"


def _kubeconfig(certificate: Path, token: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "e2e", "cluster": {"server": API, "certificate-authority": str(certificate)}}],
        "users": [{"name": "e2e", "user": {"token": token}}],
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "e2e"}}],
        "current-context": "e2e",
    }


def _access(name: str) -> Path:
    return STATE / f"{name}.json"


def _as(name: str) -> tuple[str, str]:
    return ("--kubeconfig", str(_access(name)))


def _kubectl(*words: str) -> str:
    return prints("kubectl", *_as("admin"), *words)


def _write(name: str, text: str) -> Path:
    file = STATE / name
    file.parent.mkdir(exist_ok=True)
    file.touch(mode=0o600)
    file.write_text(text, encoding="utf-8")
    return file


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
