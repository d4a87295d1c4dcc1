"""The languages: what each needs on the machine, how its actor is built, how it is started.

A table, and one running actor. Knows neither the cases nor what they mean.
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
ANSWER_S: Final = 90.0
"""How long an actor may take over one case. A virtual machine warms up within it, on a busy machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """How the actor of one language comes to run. Commands run in `folder`."""

    tools: tuple[str, ...]
    folder: str
    build: tuple[tuple[str, ...], ...] = ()
    command: tuple[str, ...]

    def missing(self) -> list[str]:
        """The tools that this machine does not have."""
        return [tool for tool in self.tools if shutil.which(tool) is None]


LANGUAGES: Final[Mapping[str, Language]] = {
    "python": Language(
        tools=(), folder="clients/conformance", command=(sys.executable, "python_actor.py"),
    ),
    "python-blocking": Language(
        tools=(), folder="clients/conformance", command=(sys.executable, "python_blocking_actor.py"),
    ),
    "go": Language(
        tools=("go",), folder="clients/go",
        build=(("go", "build", "-o", "build/conformance", "./conformance"),),
        command=("build/conformance",),
    ),
    "typescript": Language(
        tools=("node", "npm"), folder="clients/typescript",
        build=(("npm", "ci", "--no-audit", "--no-fund"), ("npm", "run", "build")),
        command=("node", "dist/conformance.js"),
    ),
    "java": Language(
        tools=("java", "mvn"), folder="clients/java",
        build=(("mvn", "--batch-mode", "--quiet", "-Dmaven.test.skip=true", "package"),),
        command=("java", "-jar", "programs/target/togetherchat-programs.jar"),
    ),
}  # fmt: skip
IN_PYTHON: Final = ("python", "python-blocking")


class ActorError(Exception):
    """An actor could not be built, ended, or did not answer."""


def build(language: Language) -> None:
    """Build the actor. Raises ActorError with what the build said."""
    folder = ROOT / language.folder
    if not folder.is_dir():
        raise ActorError(f"there is no {language.folder}")
    for command in language.build:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603  from the table
        if done.returncode:
            raise ActorError(f"{' '.join(command)}: {(done.stdout + done.stderr)[-4000:]}")


class Actor:
    """A running actor; one case after the other."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._errors: list[str] = []
        self._listening = asyncio.create_task(self._listen())

    async def play(self, line: str) -> str:
        """Its answer to one line. Raises ActorError where there is none."""
        source, sink = self._process.stdout, self._process.stdin
        assert source is not None, "started with pipes"  # noqa: S101
        assert sink is not None, "started with pipes"  # noqa: S101
        try:
            async with asyncio.timeout(ANSWER_S):
                sink.write(line.encode() + b"\n")
                await sink.drain()
                answer = await source.readline()
        except TimeoutError:
            raise ActorError(f"no answer within {ANSWER_S:.0f} s{self._said()}") from None
        except ConnectionError:
            answer = b""
        if not answer:
            await self._listening
            raise ActorError(f"the actor ended{self._said()}")
        return answer.decode()

    async def end(self) -> int:
        """Close its input; its exit status."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        async with asyncio.timeout(ANSWER_S):
            return await self._process.wait()

    async def kill(self) -> None:
        """End it whatever it does."""
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        await self._listening

    async def _listen(self) -> None:
        source = self._process.stderr
        while source is not None and (line := await source.readline()):
            self._errors.append(line.decode(errors="replace"))

    def _said(self) -> str:
        return f": {''.join(self._errors)[-4000:]}" if self._errors else ""


@asynccontextmanager
async def running(language: Language, address: str, environment: Mapping[str, str]) -> AsyncGenerator[Actor]:
    """The actor of `language`, connected to `address`, ended whatever happens."""
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
