"""Runs a Kubernetes cluster of one node: starts its processes in order, runs a command, ends the processes.

Owns the processes, their flags and their files. The namespaces that `inside` prepares make fixed addresses
and folders safe. This module knows nothing of what is deployed.
"""

import json
import os
import secrets
import sys
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from process import LOGS, exit_status_of, is_healthy, output_of, report, resolves, running, wait_until

ADDRESS = os.environ["E2E_ADDRESS"]
TOOLS = Path(os.environ["E2E_TOOLS"])
CGROUP = os.environ["E2E_CGROUP"]
STATE = Path("/run/e2e")
# Created by the API server, with its authority.
CERTIFICATE = STATE / "api/apiserver.crt"
# Signs the tokens of service accounts.
ACCOUNTS_KEY = STATE / "accounts.pem"
ETCD = "http://127.0.0.1:2379"
API = f"https://{ADDRESS}:6443"
CONTAINERD = "/run/containerd/containerd.sock"
SERVICES, PODS = "10.96.0.0/16", "10.98.0.0/24"

# User and groups of each process at the API server. The last is for the command that runs in the cluster.
USERS = {
    "kube-controller-manager": ("system:kube-controller-manager", ""),
    "kube-scheduler": ("system:kube-scheduler", ""),
    "kube-proxy": ("system:kube-proxy", ""),
    "kubelet": ("system:node:node", "system:nodes"),
    "admin": ("admin", "system:masters"),
}


def main(command: Sequence[str]) -> int:
    """Run a command in the cluster and return its exit status."""
    STATE.mkdir()
    with ExitStack() as processes:
        for start in (etcd, api_server, controllers, containerd, dns, kubelet, proxy):
            report(f"starting {start.__name__.replace('_', ' ')}")
            processes.enter_context(start())
        version = json.loads(_kubectl("get", "--raw", "/version"))["gitVersion"]
        report(f"Kubernetes {version} is running; logs are in {LOGS}")
        return exit_status_of(*command, KUBECONFIG=str(_access("admin")), E2E_ACCOUNTS_KEY=str(ACCOUNTS_KEY))


@contextmanager
def etcd() -> Generator[None]:
    words = ["--data-dir", str(STATE / "etcd"), "--unsafe-no-fsync"]
    with running("etcd", *words, "--listen-client-urls", ETCD, "--advertise-client-urls", ETCD) as alive:
        wait_until("etcd is healthy", lambda: is_healthy(f"{ETCD}/health"), alive)
        yield


@contextmanager
def api_server() -> Generator[None]:
    tokens = {name: secrets.token_hex(16) for name in USERS}
    rows = [f'{tokens[name]},{user},{user},"{group}"\n' for name, (user, group) in USERS.items()]
    _write("tokens.csv", "".join(rows))
    output_of("openssl", "genrsa", "-out", str(ACCOUNTS_KEY), "2048")
    words = [
        *("--etcd-servers", ETCD, "--cert-dir", str(STATE / "api"), "--advertise-address", ADDRESS),
        *("--token-auth-file", str(STATE / "tokens.csv"), "--authorization-mode", "Node,RBAC"),
        *("--kubelet-preferred-address-types", "InternalIP"),
        *("--enable-admission-plugins", "NodeRestriction", "--service-cluster-ip-range", SERVICES),
        *("--service-account-issuer", "https://kubernetes.default.svc"),
        *("--service-account-signing-key-file", str(ACCOUNTS_KEY)),
        *("--service-account-key-file", str(ACCOUNTS_KEY)),
    ]
    with running("kube-apiserver", *words) as alive:
        wait_until("the API server has a certificate", CERTIFICATE.exists, alive)
        for name, token in tokens.items():
            _write(f"{name}.json", json.dumps(_kubeconfig(token)))
        wait_until("the API server is ready", lambda: _kubectl("get", "--raw", "/readyz") == "ok", alive)
        yield


@contextmanager
def controllers() -> Generator[None]:
    """The controllers that create pods, and the scheduler that assigns them to nodes."""
    manager = [
        *("--use-service-account-credentials", "--service-account-private-key-file", str(ACCOUNTS_KEY)),
        # Published in every namespace as the ConfigMap kube-root-ca.crt, which pods mount.
        *("--root-ca-file", str(CERTIFICATE)),
    ]
    with (
        running("kube-controller-manager", *_as("kube-controller-manager"), *manager),
        running("kube-scheduler", *_as("kube-scheduler")),
    ):
        yield


@contextmanager
def containerd() -> Generator[None]:
    """Containerd, with the images from `parts` imported: there is no registry."""
    nets = {"cniVersion": "1.0.0", "name": "pods", "plugins": [_pods_network(), {"type": "portmap"}]}
    _write("cni/pods.conflist", json.dumps(nets))
    ctr = ("ctr", "--address", CONTAINERD, "--namespace", "k8s.io")
    with running("containerd", "--config", str(_write("containerd.toml", CONTAINERD_SETTINGS))) as alive:
        wait_until("containerd answers", lambda: output_of(*ctr, "version"), alive)
        for image in sorted((TOOLS / "images").glob("*.tar")):
            wait_until(
                f"{image.name} is imported",
                lambda image=image: output_of(*ctr, "images", "import", str(image)),
            )
        yield


CONTAINERD_SETTINGS = f"""
version = 3
[grpc]
address = "{CONTAINERD}"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "localhost/pause:e2e"
[plugins."io.containerd.cri.v1.runtime"]
# Without CAP_SYS_RESOURCE, as in a container, root cannot set a lower score than its own.
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{STATE}/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""


@contextmanager
def dns() -> Generator[None]:
    """The cluster's DNS, as a process on the node instead of a pod."""
    access = f"{{\n kubeconfig {STATE}/admin.json\n ttl 5\n }}"
    zone = f"cluster.local:53 {{\n bind {ADDRESS}\n errors\n kubernetes {access}\n}}\n"
    with running("dns", "-conf", str(_write("Corefile", zone))) as alive:
        wait_until("the DNS resolves names", lambda: resolves("kubernetes.default.svc.cluster.local"), alive)
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
        # Only processes in these namespaces can connect.
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        # A full disk on this machine must not evict pods.
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
    }
    words = ["--config", str(_write("kubelet-settings.json", json.dumps(settings)))]
    words += ["--hostname-override", "node", "--node-ip", ADDRESS]
    with running("kubelet", *_as("kubelet"), *words) as alive:
        wait_until("the node is ready", _node_is_ready, alive)
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
        # Leave the conntrack limits of the whole machine unchanged.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
    with running("kube-proxy", "--config", str(_write("proxy-settings.json", json.dumps(settings)))):
        yield


def _cgroup_hierarchies() -> list[Path]:
    """The mount point of each controller with version 1, or of the single hierarchy with version 2."""
    top = Path("/sys/fs/cgroup")
    return [top] if (top / "cgroup.controllers").exists() else [it for it in top.iterdir() if it.is_dir()]


def _pods_network() -> dict[str, object]:
    """A veth pair from each pod to the node, which routes packets."""
    addresses = {"type": "host-local", "ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}]}
    return {"type": "ptp", "ipMasq": False, "ipam": addresses}


def _node_is_ready() -> bool:
    path = 'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}'
    return _kubectl("get", "nodes", "--output", path) == "True"


def _kubeconfig(token: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "e2e", "cluster": {"server": API, "certificate-authority": str(CERTIFICATE)}}],
        "users": [{"name": "e2e", "user": {"token": token}}],
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "e2e"}}],
        "current-context": "e2e",
    }


def _access(name: str) -> Path:
    return STATE / f"{name}.json"


def _as(name: str) -> tuple[str, str]:
    return ("--kubeconfig", str(_access(name)))


def _kubectl(*words: str) -> str:
    return output_of("kubectl", *_as("admin"), *words)


def _write(name: str, text: str) -> Path:
    file = STATE / name
    file.parent.mkdir(exist_ok=True)
    file.touch(mode=0o600)
    file.write_text(text, encoding="utf-8")
    return file


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
