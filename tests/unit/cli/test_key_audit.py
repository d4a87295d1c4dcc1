"""`togetherchat-server keys` and the audit log: who created or revoked a key."""

import os
import pwd

import pytest

from support.audit import AuditedFile, without_common
from support.tenants import Keys
from togetherchat_server.cli import key_audit
from togetherchat_server.cli import keys as command
from togetherchat_server.cli.key_audit import operator_of
from togetherchat_server.tenants.key_format import key_id_of

LOGIN = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path / "keys")


@pytest.fixture
def audit(tmp_path):
    return AuditedFile(tmp_path / "audit")


def environment(keys, audit, **more):
    return {"TOGETHERCHAT_API_KEYS_FILE": str(keys.path), "TOGETHERCHAT_AUDIT_LOG": str(audit.path), **more}


def test_creating_and_revoking_a_key_are_events(keys, audit):
    """They name the key by its id, and the operator. The time is that of the change in the keys file."""
    _, key, _ = keys.run(
        "create",
        "--tenant",
        "acme",
        "--label",
        "shop",
        "--expires",
        "12h",
        environment=environment(keys, audit),
    )
    status, _, _ = keys.run("revoke", key_id_of(key.strip()), environment=environment(keys, audit))

    key_id = key_id_of(key.strip())
    fields = {
        "key_id": key_id,
        "tenant": "acme",
        "label": "shop",
        "expires": "2029-06-01T12:00:00+00:00",
        "operator": LOGIN,
    }
    assert 0 == status
    assert [{"event": "key_created", **fields}, {"event": "key_revoked", **fields}] == [
        without_common(line) for line in audit.events()
    ]
    assert ["2029-06-01T00:00:00.000Z"] * 2 == [line["time"] for line in audit.events()]
    assert key.strip().partition("_")[2].partition("_")[2] not in audit.path.read_text()


def test_every_key_of_a_revoked_tenant_is_an_event(keys, audit):
    """Except those that were revoked before. The events have the scopes that a key names."""
    earlier, plain, admin = (keys.create("acme", *words) for words in ((), (), ("--scope", "chat,admin")))
    keys.revoke(earlier)
    status, _, _ = keys.run("revoke", "--tenant", "acme", environment=environment(keys, audit))

    assert 0 == status
    assert [(key_id_of(plain), None), (key_id_of(admin), "chat,admin")] == [
        (line["key_id"], line.get("scopes")) for line in audit.events("key_revoked")
    ]


def test_the_flag_wins_over_the_variable(keys, audit, tmp_path):
    """`off` switches the audit log off."""
    for flag in (str(tmp_path / "other"), "off"):
        status, _, _ = keys.run(
            "create", "--tenant", "a", "--audit-log", flag, environment=environment(keys, audit)
        )
        assert 0 == status

    assert (1, False) == (len(AuditedFile(tmp_path / "other").events()), audit.path.exists())


def test_the_line_may_go_to_standard_error(keys, capfd):
    """For a job whose log is collected."""
    keys.run("create", "--tenant", "a", "--audit-log", "stderr")

    assert '"event":"key_created"' in capfd.readouterr().err


def test_nothing_is_written_for_a_list_or_a_key_that_was_revoked_before(keys, audit):
    """Neither changes the keys file."""
    key = keys.create("acme")
    keys.revoke(key)
    for arguments in (("list",), ("revoke", key_id_of(key)), ("revoke", "0" * 12)):
        keys.run(*arguments, environment=environment(keys, audit))

    assert [] == audit.events()


@pytest.mark.parametrize("words", [("create", "--tenant", "b"), ("revoke", "{id}")])
@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "{folder}/no/audit",
            "--audit-log {folder}/no/audit: cannot open the file: No such file or directory",
        ),
        (
            "/dev/full",
            "--audit-log /dev/full: cannot write the file: No space left on device; no key was changed",
        ),
    ],
    ids=["cannot be opened", "full"],
)
def test_no_key_is_changed_without_a_line_about_it(keys, tmp_path, words, target, message):
    """The command fails with status 1 and one line, and the keys file is as before."""
    key_id = key_id_of(keys.create("acme"))
    before = keys.path.read_bytes()
    words = [word.format(id=key_id) for word in words]
    status, out, error = keys.run(*words, "--audit-log", target.format(folder=tmp_path))

    assert (1, "") == (status, out)
    assert f"togetherchat-server keys: {message.format(folder=tmp_path)}\n" == error
    assert before == keys.path.read_bytes()


def test_a_change_that_fails_after_its_line_has_a_second_line(keys, audit, monkeypatch):
    """So nobody takes the key for revoked."""
    key = keys.create("acme")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(command, "write_keys", full)
    status, _, _ = keys.run("revoke", key_id_of(key), environment=environment(keys, audit))

    assert 1 == status
    assert [None, "the keys file was not changed: No space left on device"] == [
        line.get("problem") for line in audit.events("key_revoked")
    ]


def test_the_operator_is_the_user_who_called_sudo():
    """`root` would name nobody. The value is one printable line."""
    assert "alice" == operator_of({"SUDO_USER": "alice"})
    assert "a b" == operator_of({"SUDO_USER": "a\nb"})
    assert LOGIN == operator_of({"SUDO_USER": ""})


def test_an_operator_without_a_name_is_known_by_number(monkeypatch):
    """As in a container whose user is not in `/etc/passwd`."""

    def unknown(_):
        raise KeyError

    monkeypatch.setattr(key_audit.pwd, "getpwuid", unknown)
    monkeypatch.setattr(key_audit.os, "getuid", lambda: 65532)

    assert "uid 65532" == operator_of({})
