"""The door as the command serves it: where it says that it is, alone and with several workers."""

import asyncio
import json

import httpx

from support.command import running_command
from support.http_client import COMPLETIONS, ask

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
    greeting = await command.wait_for_line(" SERVING: ")
    return greeting.partition("HTTP on ")[2].partition(",")[0].removesuffix("/v1")


async def completed(address):
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        response = await client.post(address + COMPLETIONS, json=ask())
    assert 200 == response.status_code
    return response


async def test_the_command_says_where_the_door_is():
    """In the line that says that it serves; it ends as ever, with nothing more to say."""
    async with running_command(*LOOPBACK, *SANDBOX) as command:
        await completed(await address_of(command))
        command.signal(15)
        assert 0 == await command.wait_for_exit()

    lines = [json.loads(line) for line in command.lines if line.startswith("{")]
    called = [line for line in lines if line["event"] == "call"]
    assert ["http"] == [line["protocol"] for line in called]


async def test_without_a_word_there_is_no_door():
    """It is off in production."""
    words = [word for word in LOOPBACK if word != "--http-listen"]
    words.remove("127.0.0.1:0")
    async with running_command(*words, *SANDBOX) as command:
        assert "HTTP on" not in await command.wait_for_line(" SERVING: ")


async def test_several_workers_share_the_doors_port():
    """One address, kept by the supervisor; every call is answered by one of them."""
    async with running_command(*LOOPBACK, *SANDBOX, "--workers", "2") as command:
        address = await address_of(command)
        await asyncio.gather(*(completed(address) for _ in range(8)))
        command.signal(15)
        assert 0 == await command.wait_for_exit()

    assert 8 == sum('"protocol": "http"' in line or '"protocol":"http"' in line for line in command.lines)


async def test_a_second_door_at_the_address_is_refused():
    """With one line, whether the first has workers or not."""
    async with running_command(*LOOPBACK, *SANDBOX, "--workers", "2") as first:
        place = (await address_of(first)).removeprefix("http://")
        words = ("--grpc-listen", "127.0.0.1:0", "--http-listen", place, "--admin-listen", "off")
        async with running_command(*words, *SANDBOX) as second:
            assert 1 == await second.wait_for_exit()

    assert f"cannot listen on {place}: Address already in use" in second.lines[-1]
