"""Describes the machine and the versions of a run. Contains no host names and no paths."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

OURS: Final = ("grpcio", "httptools", "orjson", "protobuf", "uvloop")
COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "Go": ("go", "env", "GOVERSION"),
    "Node": ("node", "--version"),
    "Portkey": (
        "node",
        "--print",
        "require('{installed}/portkey/node_modules/@portkey-ai/gateway/package.json').version",
    ),
    "h2load": ("{h2load}", "--version"),
}
PEERS: Final[Mapping[str, tuple[str, ...]]] = {
    "LiteLLM": ("litellm/bin/python", "litellm"),
    "SMG": ("smg/bin/python", "smg"),
}
PRINT_VERSION: Final = "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))"


def tool(name: str) -> str:
    """Return the path in a variable such as H2LOAD, which `make bench` sets; else the name, for the PATH."""
    return os.environ.get(name.upper(), name)


def facts(installed: Path) -> dict[str, str]:
    found = {
        "CPU": cpu_model(Path("/proc/cpuinfo").read_text()),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "kernel": platform.release().split("-")[0],
        "Python": platform.python_version(),
        "load before": f"{os.getloadavg()[0]:.1f}",
    }
    found |= {name: version for name in OURS if (version := _installed(name))}
    for name, command in COMMANDS.items():
        found[name] = _output([word.format(installed=installed, h2load=tool("h2load")) for word in command])
    for name, (python, package) in PEERS.items():
        found[name] = _output([str(installed / python), "-c", PRINT_VERSION, package])
    return {name: text for name, text in found.items() if text}


def commit() -> str:
    """Return the commit of the working tree, with `-dirty` if a tracked file differs from it."""
    return _output(["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty"]) or "unknown"


def cpu_model(cpuinfo: str) -> str:
    for line in cpuinfo.splitlines():
        name, _, text = line.partition(":")
        if name.strip() == "model name":
            return text.strip()
    return platform.machine()


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip().rpartition("/")[2] if done.returncode == 0 else ""
