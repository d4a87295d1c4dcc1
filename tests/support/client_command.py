"""The `togetherchat` command as a process, with its output in a pipe."""

import asyncio
import os
import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    code: int
    out: str
    err: str


def environment(target: str, **more: str) -> dict[str, str]:
    inherited = {
        name: os.environ[name] for name in ("PATH", "PYTHONPATH", "VIRTUAL_ENV") if name in os.environ
    }
    python = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"}
    return {**inherited, **python, "TOGETHERCHAT_TARGET": target, **more}


async def start(target: str, *arguments: str, **more: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "togetherchat_client.cli",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(target, **more),
    )


async def run(target: str, *arguments: str, stdin: bytes = b"", **more: str) -> Ended:
    process = await start(target, *arguments, **more)
    async with asyncio.timeout(30):
        out, err = await process.communicate(stdin)
    return Ended(code=process.returncode, out=out.decode(), err=err.decode())
