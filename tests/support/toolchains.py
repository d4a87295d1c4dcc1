"""The tools that each language needs on the machine, and a shell without this tree's variables."""

import asyncio
import os
import shutil

import pytest

TOOLS = {"python": ("python3",), "go": ("go",), "typescript": ("npm",), "java": ("java", "mvn")}
SELECTED = os.environ.get("CLIENTS", "python").split(",")
NOT_OURS = ("PYTHONPATH", "GOFLAGS")


def selected_languages():
    """The languages that `CLIENTS` names; Python if it is not set."""
    return [name for name in TOOLS if "all" in SELECTED or name in SELECTED]


def needs(language):
    """Skip if the language is not selected or its tools are missing; with `CI`, missing tools fail."""
    if language not in selected_languages():
        pytest.skip(f"CLIENTS does not name {language}")
    if missing := [tool for tool in TOOLS[language] if shutil.which(tool) is None]:
        reason = f"{language} needs {', '.join(missing)}"
        assert "CI" not in os.environ, reason
        pytest.skip(reason)


async def shell(text, folder, **more):
    """Run these lines in a shell; return their output. Each must exit with 0."""
    outer = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
    process = await asyncio.create_subprocess_exec(
        "sh", "-e", "-c", text, cwd=folder, env=outer | more,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert 0 == process.returncode, (out + err).decode()[-4000:]
    return out.decode()
