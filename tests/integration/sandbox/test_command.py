"""The command: flags, the line with its address, signals."""

import asyncio
import re
import signal
import socket
import sys

import httpx
import pytest

from togetherchat_sandbox.__main__ import main
from togetherchat_sandbox.faults import table_markdown


async def start(*flags):
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "togetherchat_sandbox", *flags, stderr=asyncio.subprocess.PIPE
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_listens_until_a_signal(number):
    """The command prints its address once it listens, serves there, and exits with 0 and no message."""
    process = await start("--listen", "127.0.0.1:0", "--first-token-ms", "0", "--tokens-per-second", "0")
    async with asyncio.timeout(60):
        line = (await process.stderr.readline()).decode()
        address = re.fullmatch(r"togetherchat-sandbox: listening on (http://127\.0\.0\.1:\d+/v1)\n", line)[1]
        async with httpx.AsyncClient() as client:
            offer = {"connection": "upgrade", "upgrade": "h2c"}
            assert 200 == (await client.get(f"{address}/models", headers=offer)).status_code
        process.send_signal(number)
        rest = await process.stderr.read()
        assert (0, b"") == (await process.wait(), rest)


def test_an_address_in_use(capsys):
    """An address in use gives one line on standard error and exit status 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert 1 == main(["--listen", f"127.0.0.1:{port}"])
    assert f"--listen: address already in use: 127.0.0.1:{port} (" in capsys.readouterr().err


def test_list_models(capsys):
    """`--list-models` prints the table of the documentation."""
    assert 0 == main(["--list-models"])
    assert table_markdown() == capsys.readouterr().out


@pytest.mark.parametrize(
    "flags",
    [
        ["--listen", "8801"],
        ["--listen", "localhost:http"],
        ["--tokens-per-second", "-1"],
        ["--first-token-ms", "nan"],
        ["--request-log-size", "0"],
    ],
)
def test_invalid_flags(flags, capsys):
    """An invalid flag gives exit status 2 and is named."""
    with pytest.raises(SystemExit) as ended:
        main(flags)
    assert (2, True) == (ended.value.code, f"argument {flags[0]}" in capsys.readouterr().err)
