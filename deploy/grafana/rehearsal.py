"""Runs the service for six minutes with callers and failures, and draws the dashboard's picture.

    make dashboard-picture          # needs Prometheus on the PATH

Two workers with the sandbox, three tenants with keys, TLS, and a Prometheus that scrapes every five
seconds. A worker is killed after a minute and a half. In the fourth minute there are more calls
than permits for a while. Everything runs on the loopback, and only the picture remains.
"""

import argparse
import asyncio
import contextlib
import datetime as dt
import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator
from pathlib import Path

import trustme

from togetherchat_client import AsyncClient, Tls, TogetherChatError, connect_async

KILL_AFTER, OVERLOAD_AFTER = 0.25, 0.55
"""As a fraction of the whole time."""
OVERLOAD_S, OVERLOAD_CALLERS, OVERLOAD_CONNECTIONS = 25.0, 60, 6
SCRAPE_S = 5
SERVICE = (sys.executable, "-m", "togetherchat_server")
# By tenant: the maximum of calls per second, the models, and the kind of call. Most calls succeed.
TENANTS = {
    "shop": (9.0, ("openai/gpt-oss-120b", "Qwen/Qwen3.7-Plus"), "stream"),
    "search": (6.0, ("Qwen/Qwen3.7-Plus", "MiniMaxAI/MiniMax-M3"), "unary"),
    "lab": (3.0, ("zai-org/GLM-5.2",), "stream"),
}
FAILURES = (
    "sandbox/error-503-x1",
    "sandbox/error-503",
    "sandbox/error-422",
    "sandbox/cut-stream",
    "sandbox/slow",
)
LIMITS = """
[tenants.lab]
requests_per_minute = 150
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def running(*command: str) -> Generator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def create_keys(file: Path) -> dict[str, str]:
    """Create a key for each tenant."""
    create = (*SERVICE, "keys", "create", "--api-keys-file", str(file), "--tenant")
    return {
        tenant: subprocess.run([*create, tenant], check=True, capture_output=True, text=True).stdout.strip()
        for tenant in TENANTS
    }


def write_certificate(folder: Path) -> bytes:
    """Write a certificate for a month; return the root certificate to trust."""
    authority = trustme.CA()
    until = dt.datetime.now(dt.UTC) + dt.timedelta(days=30)
    leaf = authority.issue_cert("localhost", not_after=until)
    leaf.cert_chain_pems[0].write_to_path(str(folder / "tls.crt"))
    leaf.private_key_pem.write_to_path(str(folder / "tls.key"))
    return authority.cert_pem.bytes()


async def call(client: AsyncClient, model: str, kind: str) -> None:
    with contextlib.suppress(TogetherChatError):
        if kind == "unary":
            await client.complete(model, "Why is the sky blue?", timeout_s=5)
            return
        async with client.stream(model, "Why is the sky blue?", timeout_s=5) as stream:
            async for _ in stream:
                pass


async def tenant(address: str, key: str, tls: Tls, name: str, end_s: float) -> None:
    """Make calls at random times, at a rate that rises and falls."""
    rate, models, kind = TENANTS[name]
    rng = random.Random(name)  # noqa: S311  not for secrets
    loop = asyncio.get_running_loop()
    async with connect_async(address, key=key, tls=tls) as client, asyncio.TaskGroup() as calls:
        while (now_s := loop.time()) < end_s:
            wave = 0.6 + 0.4 * math.sin(now_s / 35 + len(name))
            await asyncio.sleep(rng.expovariate(rate * wave))
            model = rng.choice(FAILURES if rng.random() < 0.06 else models)
            calls.create_task(call(client, model, kind))


async def overload(address: str, key: str, tls: Tls, after_s: float) -> None:
    """Make more calls than there are permits for a while."""
    await asyncio.sleep(after_s)
    end_s = asyncio.get_running_loop().time() + OVERLOAD_S
    await asyncio.gather(
        *(overload_connection(address, key, tls, end_s) for _ in range(OVERLOAD_CONNECTIONS))
    )


async def overload_connection(address: str, key: str, tls: Tls, end_s: float) -> None:
    """Run callers on one connection that make one call after the other."""
    own = [("grpc.use_local_subchannel_pool", 1)]
    loop = asyncio.get_running_loop()
    async with connect_async(address, key=key, tls=tls, retries=False, channel_options=own) as client:

        async def caller() -> None:
            while loop.time() < end_s:
                await call(client, TENANTS["shop"][1][0], "stream")
                await asyncio.sleep(0.5)

        await asyncio.gather(*(caller() for _ in range(OVERLOAD_CALLERS // OVERLOAD_CONNECTIONS)))


async def kill_worker(admin: str, after_s: float) -> None:
    """Kill a worker."""
    await asyncio.sleep(after_s)
    processes = json.loads(await asyncio.to_thread(fetch, f"http://{admin}/workers"))["processes"]
    os.kill(next(entry["pid"] for entry in processes if entry["role"] == "worker"), signal.SIGKILL)


async def rehearse(address: str, keys: dict[str, str], tls: Tls, admin: str, minutes: float) -> None:
    loop, total_s = asyncio.get_running_loop(), 60 * minutes
    start_s = loop.time()
    async with asyncio.TaskGroup() as group:
        for name in TENANTS:
            group.create_task(tenant(address, keys[name], tls, name, start_s + total_s - 30))
        group.create_task(overload(address, keys["shop"], tls, OVERLOAD_AFTER * total_s))
        group.create_task(kill_worker(admin, KILL_AFTER * total_s))
    await asyncio.sleep(max(0.0, start_s + total_s - loop.time()))


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=2) as response:
        return response.read()


def await_ready(admin: str) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError):
            fetch(f"http://{admin}/readyz")
            return
        time.sleep(0.1)
    raise RuntimeError("the service did not become ready within 30 s; run it by hand to see its log")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture")
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--draw-with", default=sys.executable, help="a Python that has matplotlib")
    arguments = parser.parse_args()
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root_certificates, keys = write_certificate(folder), create_keys(folder / "keys.jsonl")
        (folder / "tenants.toml").write_text(LIMITS, encoding="ascii")
        listen, admin, prometheus_address = (f"127.0.0.1:{free_port()}" for _ in range(3))
        scrape = {"job_name": "togetherchat", "static_configs": [{"targets": [admin]}]}
        configuration = {"global": {"scrape_interval": f"{SCRAPE_S}s"}, "scrape_configs": [scrape]}
        (folder / "prometheus.json").write_text(json.dumps(configuration), encoding="ascii")
        service = (
            *(*SERVICE, "--sandbox", "--workers", "2", "--max-concurrent-calls", "20"),
            *("--grpc-listen", listen, "--admin-listen", admin),
            *("--api-keys-file", str(folder / "keys.jsonl"), "--tenants-file", str(folder / "tenants.toml")),
            *("--tls-cert-file", str(folder / "tls.crt"), "--tls-key-file", str(folder / "tls.key")),
        )
        prometheus = (
            *("prometheus", f"--config.file={folder / 'prometheus.json'}"),
            *(f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={prometheus_address}"),
        )
        with running(*service), running(*prometheus):
            tls = Tls(root_certificates=root_certificates)
            address = f"localhost:{listen.rpartition(':')[2]}"
            await_ready(admin)
            asyncio.run(rehearse(address, keys, tls, admin, arguments.minutes))
            draw = [
                arguments.draw_with,
                str(here / "picture.py"),
                f"http://{prometheus_address}",
                arguments.picture,
            ]
            subprocess.run([*draw, "--minutes", str(arguments.minutes)], check=True)


if __name__ == "__main__":
    main()
