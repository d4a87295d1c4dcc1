"""Containers of the image under test, with every restriction that operators apply.

The root is read-only. The container has no capabilities, cannot gain privileges, and has limits on memory and
processes. Its network is the namespace of this process, which `deploy/image/test` created.
"""

import asyncio
import os
import signal
import subprocess
import uuid
from contextlib import asynccontextmanager
from pathlib import Path

from support.command import Command

IMAGE = os.environ["TOGETHERCHAT_IMAGE"]
MEMORY_BYTES = 512 * 1024 * 1024
PODMAN = ("podman", *os.environ.get("TOGETHERCHAT_PODMAN", "").split())
LIMITS = os.environ.get("TOGETHERCHAT_PODMAN_LIMITS", "").split()
RESTRICTIONS = (
    *("--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp:size=16m"),
    *("--cap-drop", "all", "--security-opt", "no-new-privileges"),
    *("--memory", str(MEMORY_BYTES), "--pids-limit", "200"),
    *("--network", "host", "--no-healthcheck", *LIMITS),
)


class Container:
    """A container in the foreground; `command` has its output and its exit status."""

    def __init__(self, name: str, command: Command) -> None:
        self.name = name
        self.command = command

    async def wait_until_serving(self) -> None:
        await self.command.wait_for_line("SERVING")

    def stop(self) -> asyncio.Task[int]:
        """Send the image's stop signal, and allow a minute to exit."""
        return asyncio.create_task(self._stop())

    async def _stop(self) -> int:
        words = (*PODMAN, "stop", "--time", "60", self.name)
        return await (await asyncio.create_subprocess_exec(*words, stdout=subprocess.DEVNULL)).wait()

    def execute(self, *words: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run a command in the container."""
        return subprocess.run(
            [*PODMAN, "exec", *options, self.name, *words], check=False, capture_output=True, text=True
        )

    def evaluate(self, expression: str) -> str:
        """Evaluate a Python expression in the container and return what it prints."""
        done = self.execute("python", "-c", f"import os, sys; print({expression})")
        assert 0 == done.returncode, done.stderr
        return done.stdout.strip()

    @property
    def first_pid(self) -> int:
        """The PID of the container's first process on this machine."""
        return int(podman("inspect", "--format", "{{.State.Pid}}", self.name))

    def handles_sigterm(self) -> bool:
        """Whether the first process is the server and handles SIGTERM, according to the kernel."""
        words = [*PODMAN, "inspect", "--format", "{{.State.Pid}}", self.name]
        pid = subprocess.run(words, check=False, capture_output=True, text=True).stdout.strip()
        # Before exec, the runtime's own process has this PID, and it handles signals too.
        if pid in {"", "0"} or b"togetherchat-server" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return False
        return bool(int(self.status()["SigCgt"], 16) >> (signal.SIGTERM - 1) & 1)

    def signal(self, name: str) -> None:
        podman("kill", "--signal", name, self.name)

    def processes(self) -> dict[int, str]:
        """The state of each process in the container, by PID, without the processes of `execute`."""
        groups = [
            line.split(":", 2) for line in Path(f"/proc/{self.first_pid}/cgroup").read_text().splitlines()
        ]
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if [line.split(":", 2) for line in (folder / "cgroup").read_text().splitlines()] == groups:
                    found[int(folder.name)] = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
        return found

    def status(self) -> dict[str, str]:
        """The fields of /proc/PID/status of the first process."""
        text = Path(f"/proc/{self.first_pid}/status").read_text()
        return {
            name: " ".join(value.split())
            for name, _, value in (line.partition(":") for line in text.splitlines())
        }


@asynccontextmanager
async def container(*words: str, options: tuple[str, ...] = (), environment: dict[str, str] | None = None):
    """Run the image with these arguments until the end of the block."""
    name = f"togetherchat-test-{uuid.uuid4().hex[:12]}"
    settings = [f"--env={key}={value}" for key, value in (environment or {}).items()]
    process = await asyncio.create_subprocess_exec(
        *(*PODMAN, "run", "--name", name, *RESTRICTIONS, *options, *settings, IMAGE, *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    command = Command(process)
    try:
        yield Container(name, command)
    finally:
        removing = (*PODMAN, "rm", "--force", "--time", "0", name)
        await (await asyncio.create_subprocess_exec(*removing, stdout=subprocess.DEVNULL)).wait()
        await command.wait_for_exit()


def podman(*words: str) -> str:
    return subprocess.run([*PODMAN, *words], check=True, capture_output=True, text=True).stdout.strip()
