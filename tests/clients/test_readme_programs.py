"""The README's programs run in an empty folder beside a clone, with nothing but the README's commands."""

import asyncio
import re
import shutil
import subprocess

import pytest

from support.app import running_app
from support.readme import ADDRESS, README, WRITTEN, languages
from support.toolchains import needs, selected_languages, shell

LANGUAGES = languages()


@pytest.fixture(scope="module", params=selected_languages())
def installation(request, tmp_path_factory):
    """A language, and the folder in which the README's install commands were run."""
    name = request.param
    needs(name)
    top = tmp_path_factory.mktemp(name)
    (top / "togetherchat").symlink_to(README.parent)
    folder = top / "empty"
    folder.mkdir()
    asyncio.run(shell(LANGUAGES[name].install, folder))
    return LANGUAGES[name], folder


@pytest.mark.parametrize("title", WRITTEN)
async def test_a_program_of_the_readme_runs_unchanged(title, installation):
    """A program, copied into the file that the README names and run by its command, prints what it should."""
    language, folder = installation
    async with running_app(sandbox_tokens_per_second=0, max_retries=2) as app:
        (folder / language.file).write_text(
            language.programs[title].replace(ADDRESS, app.addresses.grpc), encoding="utf-8"
        )
        written = await shell(language.run, folder)

    assert re.search(WRITTEN[title], written, re.MULTILINE), written


@pytest.mark.parametrize("title", WRITTEN)
def test_a_go_program_is_formatted_by_gofmt(title, tmp_path):
    """gofmt would change nothing in the README's Go programs."""
    needs("go")
    (tmp_path / "hello.go").write_text(LANGUAGES["go"].programs[title], encoding="utf-8")
    gofmt = shutil.which("gofmt")
    assert gofmt is not None
    done = subprocess.run([gofmt, "-l", "."], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stdout + done.stderr)
