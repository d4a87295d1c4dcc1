"""docs/keys.md: its lines do what the page says, its limits are limits, its pattern finds keys."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.command import ROOTS, running_command
from support.tenants import Keys
from togetherchat_server.tenants.tenants_file import read_tenants

PAGE = (Path(__file__).parents[2] / "docs" / "keys.md").read_text(encoding="utf-8")
MAKING, CALLING = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
(LIMITS,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def shell(line, folder):
    """Run a line in a folder; `togetherchat-server` is this tree's."""
    program = f'togetherchat-server() {{ "{sys.executable}" -m togetherchat_server "$@"; }}'
    return subprocess.run(
        ["bash", "-c", f"export TOGETHERCHAT_API_KEYS_FILE=keys.jsonl\n{program}\n{line}"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=60,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(ROOTS)},
    )  # fmt: skip


def test_the_lines_that_make_keys(tmp_path):
    """Each ends as it says; a key that was made is one that the page's pattern finds."""
    for line in MAKING.splitlines():
        said = re.search(r"# exit (\d)$", line)
        result = shell(line, tmp_path)
        assert (int(said[1]) if said else 0) == result.returncode, (line, result.stderr)

    pattern = re.search(r"looks for `(.+)`", PAGE)[1]
    keys = Keys(tmp_path / "keys.jsonl").listed()
    assert re.fullmatch(pattern, (tmp_path / "shop.key").read_text().strip())
    assert [("the shop", "revoked"), ("", "valid")] == [(key["label"], key["state"]) for key in keys]


async def test_the_line_that_serves(tmp_path):
    """With the limits of the page."""
    Keys(tmp_path / "keys.jsonl").create("acme")
    (tmp_path / "tenants.toml").write_text(LIMITS)
    _, *words = CALLING.split()
    words = [word if "." not in word else str(tmp_path / word) for word in words]
    async with running_command(*words, "--grpc-listen", "127.0.0.1:0", "--admin-listen", "off") as command:
        assert "SERVING" in await command.said("SERVING")

    assert 60 == read_tenants(tmp_path / "tenants.toml").limits_of("anybody").requests_per_minute


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--api-keys-file", "no.jsonl"),
            "--api-keys-file no.jsonl: file not found; create it with `togetherchat-server keys create`",
        ),
        (("--api-keys-file", "/dev/null"), "--api-keys-file /dev/null: line 1: is not a JSON object"),
        (
            ("--tenants-file", "t.toml"),
            "--tenants-file requires --api-keys-file: without keys a caller has no tenant",
        ),
        (
            ("--api-keys-file", "{keys}", "--tenants-file", "no.toml"),
            "--tenants-file no.toml: file not found",
        ),
        (("--api-keys-file", "{keys}", "--redis-url", "redis://h"), "--redis-url requires --tenants-file"),
        (
            ("--api-keys-file", "{keys}", "--tenants-file", "/dev/null", "--redis-url", "http://:canary@h"),
            "--redis-url must begin with redis://, rediss://, unix://",
        ),
    ],
)
async def test_what_cannot_be_used_is_said_at_the_start(tmp_path, words, said):
    """One line, status 2."""
    keys = Keys(tmp_path / "keys.jsonl")
    keys.create("acme")
    async with running_command("--sandbox", *(word.format(keys=keys.path) for word in words)) as command:
        status = await command.ended()

    assert 2 == status
    assert said in command.error_text
    assert "canary" not in command.error_text
