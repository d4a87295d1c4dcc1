"""Where the four listeners can be bound: families of addresses, UNIX sockets, one worker and several."""

import asyncio
import json
import os
import shutil
import socket
import stat
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.app import request
from support.command import ROOTS, running_command
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc

LISTENERS = ("grpc", "http", "health", "admin")
PATHS = {"http": "/v1/models", "admin": "/readyz"}
MODEL = "openai/gpt-oss-120b"


def addresses_in(banner):
    """The addresses of the banner by listener."""
    found = {}
    for part in banner.partition("SERVING: ")[2].split(", "):
        for name, prefix in (
            ("grpc", "gRPC on "),
            ("http", "HTTP on "),
            ("health", "health on "),
            ("admin", "admin on "),
        ):
            if part.startswith(prefix):
                found[name] = part.removeprefix(prefix).removeprefix("http://").removesuffix("/v1")
    return found


@asynccontextmanager
async def listening(host, *arguments, port=0):
    """Run the command with every listener on a host. Yield the ports."""
    flags = [f"--{name}-listen={host}:{port}" for name in LISTENERS]
    async with running_command("--sandbox", "--sandbox-tokens-per-second=0", *flags, *arguments) as command:
        addresses = addresses_in(await command.wait_for_line(" SERVING: "))
        assert LISTENERS == tuple(sorted(addresses, key=LISTENERS.index))
        yield {name: int(address.rpartition(":")[2]) for name, address in addresses.items()}


async def answers(name, host, port):
    """Whether a listener answers at an address."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if name in PATHS:
        try:
            async with httpx.AsyncClient(trust_env=False) as client:
                return 200 == (await client.get(f"http://{address}{PATHS[name]}")).status_code
        except httpx.ConnectError:
            return False
    options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
    async with aio.insecure_channel(address, options=options) as channel:
        try:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
        except aio.AioRpcError:
            return False
        return True


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("0.0.0.0", (True, False)),
        ("[::]", (True, True)),
        ("127.0.0.1", (True, False)),
        ("[::1]", (False, True)),
    ],
)
async def test_each_listener_answers_where_it_should(host, expected, workers):
    """`[::]` is IPv4 and IPv6, 0.0.0.0 IPv4 alone: the same for gRPC, HTTP, health and admin."""
    async with listening(host, "--allow-unauthenticated", f"--workers={workers}") as ports:
        seen = {
            name: (await answers(name, "127.0.0.1", port), await answers(name, "::1", port))
            for name, port in ports.items()
        }

    assert dict.fromkeys(LISTENERS, expected) == seen


async def test_an_ipv4_listener_leaves_the_port_of_ipv6_free():
    """Another process can listen at `[::]` on the same port afterwards, for IPv6 alone."""
    async with listening("0.0.0.0") as ports:
        with socket.socket(socket.AF_INET6) as other:
            other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            other.bind(("::", ports["grpc"]))
            other.listen()


async def test_an_ipv4_port_in_use_is_an_error():
    """Even if the port of IPv6 is free."""
    with socket.socket() as holder:
        holder.bind(("0.0.0.0", 0))
        holder.listen()
        address = f"0.0.0.0:{holder.getsockname()[1]}"
        async with running_command("--sandbox", "--grpc-listen", address) as command:
            assert 1 == await command.wait_for_exit()

    assert f"cannot listen on {address}: Address already in use" in command.error_text


async def completed(target):
    async with aio.insecure_channel(target) as channel:
        return await service_grpc.ChatServiceStub(channel).Complete(request(model=MODEL), timeout=20)


@pytest.mark.parametrize("mode", ["0600", "0660"])
async def test_unix_sockets(tmp_path, mode):
    """gRPC and HTTP at sockets with the mode of the setting. A killed process leaves them, and the next replaces them."""
    grpc_path, http_path = tmp_path / "grpc.sock", tmp_path / "http.sock"
    flags = (
        *("--sandbox", "--sandbox-tokens-per-second=0", "--admin-listen=off", f"--unix-socket-mode={mode}"),
        *(f"--grpc-listen=unix:{grpc_path}", f"--http-listen=unix:{http_path}"),
    )
    for _ in range(2):
        async with running_command(*flags) as command:
            banner = await command.wait_for_line(" SERVING: ")
            assert f"gRPC on unix:{grpc_path}, HTTP on unix:{http_path}" in banner
            for path in (grpc_path, http_path):
                assert int(mode, 8) == stat.S_IMODE(path.stat().st_mode)
            assert (await completed(f"unix:{grpc_path}")).choices
            transport = httpx.AsyncHTTPTransport(uds=str(http_path))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                assert 200 == (await client.get("/v1/models")).status_code
            async with running_command(*flags) as second:
                assert 1 == await second.wait_for_exit()
            assert "Address already in use" in second.error_text
            assert (await completed(f"unix:{grpc_path}")).choices
            command.process.kill()
            await command.wait_for_exit()
        assert grpc_path.exists()


async def test_a_stopped_service_removes_its_sockets(tmp_path):
    async with running_command(
        "--sandbox",
        f"--grpc-listen=unix:{tmp_path}/g",
        f"--http-listen=unix:{tmp_path}/h",
        "--admin-listen=off",
    ) as command:
        await command.wait_for_line(" SERVING: ")
        command.process.terminate()
        assert 0 == await command.wait_for_exit()

    assert [] == list(tmp_path.iterdir())


async def test_an_abstract_socket():
    target = f"unix-abstract:togetherchat-listeners-{os.getpid()}"
    async with running_command(
        "--sandbox", "--sandbox-tokens-per-second=0", f"--grpc-listen={target}", "--admin-listen=off"
    ) as command:
        await command.wait_for_line(f"gRPC on {target}")
        assert (await completed(target)).choices


@pytest.mark.parametrize("flag", ["--grpc-listen", "--http-listen", "--health-listen"])
async def test_workers_cannot_share_a_unix_socket(tmp_path, flag):
    async with running_command("--sandbox", f"{flag}=unix:{tmp_path}/s", "--workers=2") as command:
        assert 2 == await command.wait_for_exit()

    assert f"{flag}: workers cannot share a UNIX socket" in command.error_text


IPV6_ONLY = "ip link set lo up && ip address del 127.0.0.1/8 dev lo && exec "
"""Sets up a new network namespace as a pod of a cluster without IPv4 has it: ::1 is the only address."""
NAMESPACES = shutil.which("unshare") and shutil.which("ip") and os.geteuid() == 0


@pytest.mark.skipif(not NAMESPACES, reason="needs root, unshare and ip")
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_machine_without_ipv4(workers):
    """Every listener answers at ::1, with the addresses of the image and the manifests."""
    code = f"import asyncio; from integration import test_listeners as t; asyncio.run(t.ipv6_only({workers}))"
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--net", "sh", "-c", f'{IPV6_ONLY} "$@"', "sh", sys.executable, "-c", code),
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*ROOTS, str(Path(__file__).parents[1])])},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate()

    assert 0 == process.returncode, error.decode()
    assert dict.fromkeys(LISTENERS, True) == json.loads(out)


async def ipv6_only(workers):
    async with listening("[::]", "--allow-unauthenticated", f"--workers={workers}") as ports:
        seen = {name: await answers(name, "::1", port) for name, port in ports.items()}
    sys.stdout.write(json.dumps(seen))
