"""docs/keys.md: its commands work, its limits are valid, and its pattern matches keys."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.command import ROOTS, running_command
from support.tenants import Keys
from togetherchat_server.domain.identity import SCOPES
from togetherchat_server.tenants.expiry_watch import DAY_S, WARN_BEFORE_S
from togetherchat_server.tenants.key_state import KeyState
from togetherchat_server.tenants.tenants_file import read_tenants

PAGE = (Path(__file__).parents[2] / "docs" / "keys.md").read_text(encoding="utf-8")
CREATE, SERVE = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
(LIMITS,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def shell(line, folder):
    """Run a line in a folder. `togetherchat-server` is the one of this tree."""
    program = f'togetherchat-server() {{ "{sys.executable}" -m togetherchat_server "$@"; }}'
    return subprocess.run(
        ["bash", "-c", f"export TOGETHERCHAT_API_KEYS_FILE=keys.jsonl\n{program}\n{line}"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=60,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(ROOTS)},
    )  # fmt: skip


def test_the_commands_that_create_keys(tmp_path):
    """Each exits with the status that the page states. The created key matches the page's pattern."""
    for line in CREATE.splitlines():
        exit_comment = re.search(r"# exit (\d)$", line)
        result = shell(line, tmp_path)
        assert (int(exit_comment[1]) if exit_comment else 0) == result.returncode, (line, result.stderr)

    pattern = re.search(r"looks for `(.+)`", PAGE)[1]
    keys = Keys(tmp_path / "keys.jsonl").listed()
    assert re.fullmatch(pattern, (tmp_path / "shop.key").read_text().strip())
    assert [("the shop", "revoked"), ("", "valid"), ("", "revoked")] == [
        (key["label"], key["state"]) for key in keys
    ]


async def test_the_command_that_serves(tmp_path):
    """The service starts with the limits of the page."""
    Keys(tmp_path / "keys.jsonl").create("acme")
    (tmp_path / "tenants.toml").write_text(LIMITS)
    _, *arguments = SERVE.split()
    arguments = [item if "." not in item else str(tmp_path / item) for item in arguments]
    async with running_command(
        *arguments, "--grpc-listen", "127.0.0.1:0", "--admin-listen", "off"
    ) as command:
        assert "SERVING" in await command.wait_for_line("SERVING")

    tenants = read_tenants(tmp_path / "tenants.toml")
    assert 60 == tenants.limits_of("anybody").requests_per_minute
    assert [False, True] == [tenants.limits_of(name).disabled for name in ("acme", "former")]


def test_the_table_of_scopes_is_complete():
    """In the order of the code."""
    table = PAGE.partition("| scope | permits |")[2].partition("\n\n")[0]

    assert list(SCOPES) == re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def test_the_table_of_states_is_complete():
    """As `list` and `show` print them."""
    table = PAGE.partition("| state | meaning |")[2].partition("\n\n")[0]

    assert list(KeyState) == re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def test_the_days_on_the_page_are_those_of_the_code():
    """Before its expiry, a key is logged and listed as expiring."""
    days = f"{WARN_BEFORE_S / DAY_S:.0f} days"

    assert f"| in the last {days} |" in PAGE
    assert f"for less than {days} |" in PAGE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--api-keys-file", "no.jsonl"),
            "--api-keys-file no.jsonl: file not found; create it with `togetherchat-server keys create`",
        ),
        (("--api-keys-file", "/dev/null"), "--api-keys-file /dev/null: line 1: is not a JSON object"),
        (
            ("--tenants-file", "t.toml"),
            "--tenants-file requires --api-keys-file, --jwt-issuer or --tls-client-ca-file: without a credential",
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
async def test_unusable_files_are_named_at_the_start(tmp_path, arguments, message):
    """One line and exit status 2, without the password of the URL."""
    keys = Keys(tmp_path / "keys.jsonl")
    keys.create("acme")
    async with running_command("--sandbox", *(item.format(keys=keys.path) for item in arguments)) as command:
        status = await command.wait_for_exit()

    assert 2 == status
    assert message in command.error_text
    assert "canary" not in command.error_text
