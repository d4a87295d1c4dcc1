"""The HTTP listener of the command: its address in the SERVING line, and several workers."""

import asyncio
import json

import httpx

from support.command import running_command
from support.http_client import COMPLETIONS, request_body

LOOPBACK = (
    "--grpc-listen",
    "127.0.0.1:0",
    "--http-listen",
    "127.0.0.1:0",
    "--admin-listen",
    "off",
    "--log-format",
    "json",
)
SANDBOX = ("--sandbox", "--sandbox-tokens-per-second", "0")


async def address_of(command):
    line = await command.wait_for_line(" SERVING: ")
    return line.partition("HTTP on ")[2].partition(",")[0].removesuffix("/v1")


async def completed(address):
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        response = await client.post(address + COMPLETIONS, json=request_body())
    assert 200 == response.status_code
    return response


async def test_the_serving_line_has_the_http_address():
    """The process stops as usual."""
    async with running_command(*LOOPBACK, *SANDBOX) as command:
        await completed(await address_of(command))
        command.signal(15)
        assert 0 == await command.wait_for_exit()

    lines = [json.loads(line) for line in command.lines if line.startswith("{")]
    called = [line for line in lines if line["event"] == "call"]
    assert ["http"] == [line["protocol"] for line in called]


async def test_http_is_off_by_default():
    """Without `--http-listen` there is no HTTP listener."""
    arguments = [argument for argument in LOOPBACK if argument != "--http-listen"]
    arguments.remove("127.0.0.1:0")
    async with running_command(*arguments, *SANDBOX) as command:
        assert "HTTP on" not in await command.wait_for_line(" SERVING: ")


async def test_several_workers_share_the_http_port():
    """The supervisor holds the address; one of the workers serves each call."""
    async with running_command(*LOOPBACK, *SANDBOX, "--workers", "2") as command:
        address = await address_of(command)
        await asyncio.gather(*(completed(address) for _ in range(8)))
        command.signal(15)
        assert 0 == await command.wait_for_exit()

    assert 8 == sum('"protocol": "http"' in line or '"protocol":"http"' in line for line in command.lines)


async def test_a_second_process_at_the_same_address_fails():
    """It fails with one line, although the workers of the first share the port."""
    async with running_command(*LOOPBACK, *SANDBOX, "--workers", "2") as first:
        address = (await address_of(first)).removeprefix("http://")
        arguments = ("--grpc-listen", "127.0.0.1:0", "--http-listen", address, "--admin-listen", "off")
        async with running_command(*arguments, *SANDBOX) as second:
            assert 1 == await second.wait_for_exit()

    assert f"cannot listen on {address}: Address already in use" in second.lines[-1]
