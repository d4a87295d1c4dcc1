"""A newcomer to a language, with the README's lines and nothing else: an empty folder beside a clone, and a service."""

import asyncio
import os
import re
import shutil
import subprocess

import pytest

from support.app import running_app
from support.readme import ADDRESS, README, WRITTEN, languages

ROOT = README.parent
LANGUAGES = languages()
TOOLS = {"python": ("python3",), "go": ("go",), "typescript": ("npm",), "java": ("java", "mvn")}
ASKED = os.environ.get("CLIENTS", "python")


def newcomers():
    return [name for name in TOOLS if ASKED == "all" or name in ASKED.split(",")]


async def shell(text, folder):
    """What the lines write, line by line as a reader's shell runs them. They must end well."""
    surroundings = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "GOFLAGS")
    }
    process = await asyncio.create_subprocess_exec(
        "sh", "-e", "-c", text, cwd=folder, env=surroundings,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert 0 == process.returncode, (out + err).decode()[-4000:]
    return out.decode()


@pytest.fixture(scope="module", params=newcomers())
def newcomer(request, tmp_path_factory):
    """A language, and the folder in which the README's lines of installation were run."""
    name = request.param
    if missing := [tool for tool in TOOLS[name] if shutil.which(tool) is None]:
        reason = f"{name} needs {', '.join(missing)}"
        assert "CI" not in os.environ, reason
        pytest.skip(reason)
    top = tmp_path_factory.mktemp(name)
    (top / "togetherchat").symlink_to(ROOT)
    folder = top / "empty"
    folder.mkdir()
    asyncio.run(shell(LANGUAGES[name].install, folder))
    return LANGUAGES[name], folder


@pytest.mark.parametrize("title", WRITTEN)
async def test_a_program_of_the_readme_runs_as_printed(title, newcomer):
    """Copied into the file that the README names, run by its line, it writes what it is there for."""
    language, folder = newcomer
    async with running_app(sandbox_tokens_per_second=0, retries=2) as app:
        (folder / language.file).write_text(
            language.programs[title].replace(ADDRESS, app.addresses.rpc), encoding="utf-8"
        )
        written = await shell(language.run, folder)

    assert re.search(WRITTEN[title], written, re.MULTILINE), written


@pytest.mark.parametrize("title", WRITTEN)
def test_a_go_program_is_as_gofmt_has_it(title, tmp_path):
    """Tabs, and nothing else that gofmt would change."""
    if "go" not in newcomers() or shutil.which("gofmt") is None:
        assert "CI" not in os.environ or ASKED != "all"
        pytest.skip("gofmt is not asked for, or not installed")
    (tmp_path / "hello.go").write_text(LANGUAGES["go"].programs[title], encoding="utf-8")
    done = subprocess.run(["gofmt", "-l", "."], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stdout + done.stderr)
