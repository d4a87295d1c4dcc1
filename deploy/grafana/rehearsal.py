"""Six minutes of the service with callers and mishaps, and the dashboard's picture of them.

    make dashboard-picture          # needs Prometheus on the PATH

Two workers before the simulator, three tenants with keys, TLS, a Prometheus that scrapes every five
seconds. A worker is killed after a minute and a half; in the fourth minute there are more calls than
places for a while. Everything runs on the loopback, and is gone afterwards but for the picture.
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

KILL_AFTER, CROWD_AFTER = 0.25, 0.55
"""Of the whole time."""
CROWD_S, CROWD, CROWD_CONNECTIONS = 25.0, 60, 6
SCRAPE_S = 5
SERVICE = (sys.executable, "-m", "togetherchat_server")
# Who asks how often a second at most, which models, and how. Most of it is well, as it is in life.
TENANTS = {
    "shop": (9.0, ("openai/gpt-oss-120b", "Qwen/Qwen3.7-Plus"), "stream"),
    "search": (6.0, ("Qwen/Qwen3.7-Plus", "MiniMaxAI/MiniMax-M3"), "whole"),
    "lab": (3.0, ("zai-org/GLM-5.2",), "stream"),
}
MISHAPS = (
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
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextlib.contextmanager
def running(*words: str) -> Generator[None]:
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def keys_in(file: Path) -> dict[str, str]:
    """A key for each tenant."""
    create = (*SERVICE, "keys", "create", "--api-keys-file", str(file), "--tenant")
    return {
        tenant: subprocess.run([*create, tenant], check=True, capture_output=True, text=True).stdout.strip()
        for tenant in TENANTS
    }


def certified(folder: Path) -> bytes:
    """A certificate for a month; what to trust for it."""
    authority = trustme.CA()
    until = dt.datetime.now(dt.UTC) + dt.timedelta(days=30)
    leaf = authority.issue_cert("localhost", not_after=until)
    leaf.cert_chain_pems[0].write_to_path(str(folder / "tls.crt"))
    leaf.private_key_pem.write_to_path(str(folder / "tls.key"))
    return authority.cert_pem.bytes()


async def call(client: AsyncClient, model: str, how: str) -> None:
    with contextlib.suppress(TogetherChatError):
        if how == "whole":
            await client.complete(model, "Why is the sky blue?", timeout_s=5)
            return
        async with client.stream(model, "Why is the sky blue?", timeout_s=5) as stream:
            async for _ in stream:
                pass


async def tenant(address: str, key: str, tls: Tls, name: str, end_s: float) -> None:
    """Calls at random moments, more and fewer of them in waves."""
    often, models, how = TENANTS[name]
    chance = random.Random(name)  # noqa: S311  no secret
    loop = asyncio.get_running_loop()
    async with connect_async(address, key=key, tls=tls) as client, asyncio.TaskGroup() as calls:
        while (now_s := loop.time()) < end_s:
            wave = 0.6 + 0.4 * math.sin(now_s / 35 + len(name))
            await asyncio.sleep(chance.expovariate(often * wave))
            model = chance.choice(MISHAPS if chance.random() < 0.06 else models)
            calls.create_task(call(client, model, how))


async def crowd(address: str, key: str, tls: Tls, after_s: float) -> None:
    """For a while more calls than there are places."""
    await asyncio.sleep(after_s)
    end_s = asyncio.get_running_loop().time() + CROWD_S
    await asyncio.gather(*(asking(address, key, tls, end_s) for _ in range(CROWD_CONNECTIONS)))


async def asking(address: str, key: str, tls: Tls, end_s: float) -> None:
    """Callers on one connection, who ask again and again."""
    own = [("grpc.use_local_subchannel_pool", 1)]
    loop = asyncio.get_running_loop()
    async with connect_async(address, key=key, tls=tls, retries=False, channel_options=own) as client:

        async def keep_asking() -> None:
            while loop.time() < end_s:
                await call(client, TENANTS["shop"][1][0], "stream")
                await asyncio.sleep(0.5)

        await asyncio.gather(*(keep_asking() for _ in range(CROWD // CROWD_CONNECTIONS)))


async def mishap(admin: str, after_s: float) -> None:
    """The sudden end of a worker."""
    await asyncio.sleep(after_s)
    processes = json.loads(await asyncio.to_thread(page, f"http://{admin}/workers"))["processes"]
    os.kill(next(it["pid"] for it in processes if it["role"] == "worker"), signal.SIGKILL)


async def rehearse(address: str, keys: dict[str, str], tls: Tls, admin: str, minutes: float) -> None:
    loop, whole_s = asyncio.get_running_loop(), 60 * minutes
    start_s = loop.time()
    async with asyncio.TaskGroup() as group:
        for name in TENANTS:
            group.create_task(tenant(address, keys[name], tls, name, start_s + whole_s - 30))
        group.create_task(crowd(address, keys["shop"], tls, CROWD_AFTER * whole_s))
        group.create_task(mishap(admin, KILL_AFTER * whole_s))
    await asyncio.sleep(max(0.0, start_s + whole_s - loop.time()))


def page(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=2) as answer:
        return answer.read()


def await_ready(admin: str) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError):
            page(f"http://{admin}/readyz")
            return
        time.sleep(0.1)
    raise RuntimeError("the service does not serve")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("picture")
    words.add_argument("--minutes", type=float, default=6)
    words.add_argument("--draw-with", default=sys.executable, help="a Python that has matplotlib")
    given = words.parse_args()
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        trusted, keys = certified(folder), keys_in(folder / "keys.jsonl")
        (folder / "tenants.toml").write_text(LIMITS, encoding="ascii")
        listen, admin, source = (f"127.0.0.1:{free_port()}" for _ in range(3))
        scraped = {"job_name": "togetherchat", "static_configs": [{"targets": [admin]}]}
        configuration = {"global": {"scrape_interval": f"{SCRAPE_S}s"}, "scrape_configs": [scraped]}
        (folder / "prometheus.json").write_text(json.dumps(configuration), encoding="ascii")
        service = (
            *(*SERVICE, "--sandbox", "--workers", "2", "--max-concurrent-calls", "20"),
            *("--grpc-listen", listen, "--admin-listen", admin),
            *("--api-keys-file", str(folder / "keys.jsonl"), "--tenants-file", str(folder / "tenants.toml")),
            *("--tls-cert-file", str(folder / "tls.crt"), "--tls-key-file", str(folder / "tls.key")),
        )
        prometheus = (
            *("prometheus", f"--config.file={folder / 'prometheus.json'}"),
            *(f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={source}"),
        )
        with running(*service), running(*prometheus):
            tls = Tls(root_certificates=trusted)
            address = f"localhost:{listen.rpartition(':')[2]}"
            await_ready(admin)
            asyncio.run(rehearse(address, keys, tls, admin, given.minutes))
            draw = [given.draw_with, str(here / "picture.py"), f"http://{source}", given.picture]
            subprocess.run([*draw, "--minutes", str(given.minutes)], check=True)


if __name__ == "__main__":
    main()
