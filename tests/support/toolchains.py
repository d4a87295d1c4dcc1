"""Newcomers: what their languages need on the machine, and a shell that knows nothing of this tree."""

import asyncio
import os
import shutil

import pytest

TOOLS = {"python": ("python3",), "go": ("go",), "typescript": ("npm",), "java": ("java", "mvn")}
ASKED = os.environ.get("CLIENTS", "python").split(",")
NOT_OURS = ("PYTHONPATH", "GOFLAGS")


def asked():
    """The languages that `CLIENTS` asks for: Python without a word of it."""
    return [name for name in TOOLS if "all" in ASKED or name in ASKED]


def needs(language):
    """Skip where the tools of a language are missing, or it was not asked for; fail where `CI` allows no skip."""
    if language not in asked():
        pytest.skip(f"CLIENTS does not ask for {language}")
    if missing := [tool for tool in TOOLS[language] if shutil.which(tool) is None]:
        reason = f"{language} needs {', '.join(missing)}"
        assert "CI" not in os.environ, reason
        pytest.skip(reason)


async def shell(text, folder, **more):
    """What these lines write, run one after the other as a reader's shell runs them. They must end well."""
    outer = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
    process = await asyncio.create_subprocess_exec(
        "sh", "-e", "-c", text, cwd=folder, env=outer | more,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert 0 == process.returncode, (out + err).decode()[-4000:]
    return out.decode()
