"""docs/audit-log.md: its tables are the code's, and its commands answer their questions."""

import ast
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support import openai
from support.app import failing, request, running_app
from support.audit import COMMON, AuditedFile
from support.http_client import get_page
from support.scripted_upstream import ScriptedUpstream, always
from support.tenants import Keys, bearer
from support.upstream_script import json_response
from support.waiting import poll
from togetherchat_server.domain import audit as module
from togetherchat_server.domain.audit import AuditEvent
from togetherchat_server.tenants.key_format import key_id_of

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "server" / "togetherchat_server"
PAGE = (ROOT / "docs" / "audit-log.md").read_text(encoding="utf-8")
PAGE_KEY = "5f0c2a91d3b7"
EVENTS = {
    name: (when, re.findall(r"`(\w+)`", fields))
    for name, when, fields in re.findall(r"^\| `(\w+)` \| (.+?) \| (`.+`) \|$", PAGE, re.MULTILINE)
}
FIELDS = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", PAGE, re.MULTILINE)
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line.endswith("audit.jsonl") or " audit.jsonl |" in line
    if not line.startswith("togetherchat-server")
]


def test_every_event_is_on_the_page_with_its_meaning():
    """In the order and in the words of the code."""
    source = Path(module.__file__).read_text("utf-8")
    meanings = dict(re.findall(r'^    [A-Z_]+ = "([a-z_]+)"\n    """(.+)\."""$', source, re.MULTILINE))

    assert [event.value for event in AuditEvent] == list(EVENTS)
    assert {name: meaning.lower() for name, meaning in meanings.items()} == {
        name: when.lower() for name, (when, _) in EVENTS.items()
    }


def emitted():
    """Return the fields of each event that the code names where it reports it."""
    found = {}
    for path in SERVER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
                continue
            event = node.args[0]
            if node.func.id == "emit" and isinstance(event, ast.Attribute) and event.attr.isupper():
                names = {keyword.arg for keyword in node.keywords} - {"suppressed"}
                found.setdefault(AuditEvent[event.attr].value, set()).update(names)
    return found


def test_the_fields_of_each_event_are_on_the_page():
    """Of those that are reported by their name; files have `file`, and `suppressed` may be in every line."""
    found = emitted()

    assert {"credential_first_used", "credential_rejected", "admin_access"} < set(found)
    for name, fields in found.items():
        assert fields - {"file"} == set(EVENTS[name][1]) - {"file"}, name


def test_every_field_has_a_meaning():
    """The second table of the page has the fields of the first, each once."""
    used = {field for _, fields in EVENTS.values() for field in fields}

    assert len(FIELDS) == len(set(FIELDS))
    assert used | {"suppressed"} == set(FIELDS)


def test_the_lines_on_the_page_have_the_fields_of_their_events():
    """And the three of every line."""
    (block,) = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    lines = [json.loads(line) for line in block.splitlines()]

    assert 4 == len(lines)
    for line in lines:
        assert ["time", "event", "pid"] == list(line)[:3]
        assert set() == set(line) - {"event", *COMMON, *EVENTS[line["event"]][1]}


@pytest.fixture
async def folder(tmp_path):
    """A folder with the audit log of a key that was created, used, revoked and tried again."""
    keys, audit = Keys(tmp_path / "keys"), AuditedFile(tmp_path / "audit.jsonl")
    environment = {
        "TOGETHERCHAT_API_KEYS_FILE": str(keys.path),
        "TOGETHERCHAT_AUDIT_LOG": str(audit.path),
        "SUDO_USER": "alice",
    }
    key = keys.run("create", "--tenant", "acme", environment=environment)[1].strip()
    other = keys.create("acme")
    async with (
        ScriptedUpstream(always(json_response(200, openai.completion()))) as upstream,
        running_app(upstream.base_url, api_keys_file=str(keys.path), audit_log=str(audit.path)) as app,
    ):
        for one in (key, other):
            await app.chat.Complete(request(), metadata=bearer(one))
        await get_page(app.addresses.admin, "/version")
        await get_page(app.addresses.admin, "/metrics")
        await audit.wait_for("admin_access", 2)
    keys.run("revoke", key_id_of(key), environment={**environment, "SUDO_USER": "bob"})
    async with running_app(api_keys_file=str(keys.path), audit_log=str(audit.path)) as app:
        await failing(app.chat.Complete(request(), metadata=bearer(key)))
        keys.path.rename(tmp_path / "away")

        async def noticed():
            """Call until the service has seen that the file is gone, which it looks for once a second."""
            await app.chat.Complete(request(model="sandbox/fast"), metadata=bearer(other))
            return audit.events("file_unreadable") or None

        await poll(noticed)
    (tmp_path / "key_id").write_text(key_id_of(key))
    return tmp_path


def run(command, folder):
    """Run a command of the page on the audit log of the folder. Return its output."""
    key_id = (folder / "key_id").read_text()
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.replace(PAGE_KEY, key_id)],
        cwd=folder, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (0, "") == (result.returncode, result.stderr), command
    return result.stdout.splitlines()


async def test_the_commands_of_the_page_answer_their_questions(folder):
    """Who used the key from where, and who revoked it. Commands need `grep`, and `jq` where it is installed."""
    installed = [command for command in COMMANDS if shutil.which(command.split()[0])]
    outputs = {command: run(command, folder) for command in installed}
    expected = {
        'grep \'"key_id"': ["key_created", "credential_first_used", "key_revoked", "credential_rejected"],
        "jq -r 'select(.key_id": ["alice", "127.0.0.1", "bob", "the key was revoked"],
        'jq -r \'select(.event == "key_revoked"': ["bob"],
        'jq -r \'select(.event == "credential_rejected"': ["127.0.0.1"],
        'jq -c \'select(.event == "admin_access"': ["/version"],
        "grep -E": ["No such file or directory"],
    }

    assert len(expected) == len(COMMANDS)
    for command, lines in outputs.items():
        (texts,) = [texts for start, texts in expected.items() if command.startswith(start)]
        assert len(texts) == len(lines), (command, lines)
        assert [] == [text for text, line in zip(texts, lines, strict=True) if text not in line]
