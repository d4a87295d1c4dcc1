"""The languages: the tools that each needs, and the commands that build and start its actor.

A table, and a class for one running actor. This module does not know the cases.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
OBSERVATION_TIMEOUT_S: Final = 90.0
"""Timeout for one case. Includes the start of a virtual machine on a busy machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """How to build and start the actor of one language. Commands run in `folder`."""

    idiom: str
    """The name of the language in `arguments.json`, whose names the messages have."""
    tools: tuple[str, ...]
    folder: str
    build: tuple[tuple[str, ...], ...] = ()
    command: tuple[str, ...]

    def missing(self) -> list[str]:
        """The tools that this machine does not have."""
        return [tool for tool in self.tools if shutil.which(tool) is None]


LANGUAGES: Final[Mapping[str, Language]] = {
    "python": Language(
        idiom="python", tools=(), folder="clients/conformance", command=(sys.executable, "python_actor.py"),
    ),
    "python-blocking": Language(
        idiom="python", tools=(), folder="clients/conformance",
        command=(sys.executable, "python_blocking_actor.py"),
    ),
    "go": Language(
        idiom="go", tools=("go",), folder="clients/go",
        build=(("go", "build", "-o", "build/conformance", "./conformance"),),
        command=("build/conformance",),
    ),
    "typescript": Language(
        idiom="typescript", tools=("node", "npm"), folder="clients/typescript",
        build=(("npm", "ci", "--no-audit", "--no-fund"), ("npm", "run", "build")),
        command=("node", "dist/conformance.js"),
    ),
    "java": Language(
        idiom="java", tools=("java", "mvn"), folder="clients/java",
        build=(("mvn", "--batch-mode", "--quiet", "-Dmaven.test.skip=true", "package"),),
        command=("java", "-jar", "programs/target/togetherchat-programs.jar"),
    ),
}  # fmt: skip
IN_PYTHON: Final = ("python", "python-blocking")


class ActorError(Exception):
    """An actor could not be built, ended early, or sent no observation."""


def build(language: Language) -> None:
    """Build the actor. Raises ActorError with the output of a failed build."""
    folder = ROOT / language.folder
    if not folder.is_dir():
        raise ActorError(f"the folder {language.folder} does not exist")
    for command in language.build:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603  from the table
        if done.returncode:
            raise ActorError(f"{' '.join(command)}: {(done.stdout + done.stderr)[-4000:]}")


class Actor:
    """A running actor. Cases are run one at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._errors: list[str] = []
        self._error_reader = asyncio.create_task(self._read_errors())

    async def play(self, line: str) -> str:
        """Send one case and return the observation, both as a line of JSON. Raises ActorError without one."""
        source, sink = self._process.stdout, self._process.stdin
        assert source is not None, "started with pipes"  # noqa: S101
        assert sink is not None, "started with pipes"  # noqa: S101
        try:
            async with asyncio.timeout(OBSERVATION_TIMEOUT_S):
                sink.write(line.encode() + b"\n")
                await sink.drain()
                observation = await source.readline()
        except TimeoutError:
            raise ActorError(
                f"no observation within {OBSERVATION_TIMEOUT_S:.0f} s{self._error_text()}"
            ) from None
        except ConnectionError:
            observation = b""
        if not observation:
            await self._error_reader
            raise ActorError(f"the actor ended{self._error_text()}")
        return observation.decode()

    async def end(self) -> int:
        """Close the actor's input and return its exit status."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        async with asyncio.timeout(OBSERVATION_TIMEOUT_S):
            return await self._process.wait()

    async def kill(self) -> None:
        """Kill the actor's process if it still runs."""
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        await self._error_reader

    async def _read_errors(self) -> None:
        source = self._process.stderr
        while source is not None and (line := await source.readline()):
            self._errors.append(line.decode(errors="replace"))

    def _error_text(self) -> str:
        return f": {''.join(self._errors)[-4000:]}" if self._errors else ""


@asynccontextmanager
async def running(language: Language, address: str, environment: Mapping[str, str]) -> AsyncGenerator[Actor]:
    """The actor of `language`, connected to `address`. The exit of the context kills it."""
    process = await asyncio.create_subprocess_exec(
        *language.command,
        address,
        cwd=ROOT / language.folder,
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=2**26,
    )
    actor = Actor(process)
    try:
        yield actor
    finally:
        await actor.kill()
