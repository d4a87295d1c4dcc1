"""The file with the provider's key, and what happens when it is replaced."""

from functools import partial

import pytest

from support.audit import audited
from togetherchat_server.config import Settings
from togetherchat_server.config.provider import load_provider, read_key
from togetherchat_server.config.reloading_file import CHECK_EVERY_S, ReloadingFile
from togetherchat_server.domain.audit import AUDIT_LOGGER
from togetherchat_server.domain.secret import KEY_CHARACTERS_MAX, Secret

CANARY = "tgp_v1_canary"


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "key"
    path.write_text("old\n")
    return path


def replaced(path, text):
    new = path.with_name("new")
    new.write_bytes(text)
    new.replace(path)


def test_a_replaced_key_file_is_read_again(path):
    """Rotation needs no restart, and takes effect within a second."""
    key = ReloadingFile(path, read_key, clock=(clock := Clock()))
    before = key.current()
    replaced(path, b"new\n")
    clock.now_s += CHECK_EVERY_S

    assert (Secret("old"), Secret("new")) == (before, key.current())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"two words",
        "é".encode(),
        b"\xff\xfe",
        b"x" * (KEY_CHARACTERS_MAX + 1),
        CANARY.encode() + b"\0",
    ],
    ids=["empty", "blank", "words", "not ASCII", "not text", "long", "control character"],
)
def test_an_unusable_replacement_leaves_the_old_key_in_force_and_is_logged(path, content, caplog):
    """A file that is half written does not take the service down. The log names the file, not its text."""
    key = ReloadingFile(path, read_key, clock=(clock := Clock()))
    replaced(path, content)
    with audited() as audit:
        for _ in range(3):
            clock.now_s += CHECK_EVERY_S
            assert Secret("old") == key.current()

    (line,) = [record.getMessage() for record in caplog.records if record.name != AUDIT_LOGGER.name]
    (event,) = audit.events()
    assert str(path) in line
    assert ("file_unreadable", str(path)) == (event["event"], event["file"])
    assert event["problem"] in line
    assert CANARY not in line + event["problem"]


def test_a_deleted_key_file_leaves_the_old_key_in_force_and_is_logged(path, caplog):
    """The operator learns that the service would not start again."""
    key = ReloadingFile(path, read_key, clock=(clock := Clock()))
    path.unlink()
    with audited() as audit:
        for _ in range(3):
            clock.now_s += CHECK_EVERY_S
            assert Secret("old") == key.current()

    assert 1 == len([record for record in caplog.records if record.name != AUDIT_LOGGER.name])
    assert [
        {"event": "file_unreadable", "file": str(path), "problem": "No such file or directory"}
    ] == audit.events()


def test_the_events_of_the_providers_key_have_names_of_their_own(path, monkeypatch):
    """An alert can tell the key that pays from the other files. The events name the file, not the key."""
    clock = Clock()
    monkeypatch.setattr(
        "togetherchat_server.config.provider.ReloadingFile", partial(ReloadingFile, clock=clock)
    )
    provider = load_provider(Settings(), {"TOGETHER_API_KEY_FILE": str(path)})
    with audited() as audit:
        replaced(path, b"new\n")
        clock.now_s += CHECK_EVERY_S
        provider.key.current()
        replaced(path, CANARY.encode() + b"\0")
        clock.now_s += CHECK_EVERY_S
        provider.key.current()

    changed, unreadable = audit.events()
    assert {"event": "provider_key_changed", "file": str(path)} == changed
    assert ("provider_key_unreadable", str(path)) == (unreadable["event"], unreadable["file"])
    assert CANARY not in unreadable["problem"]


def test_a_replaced_file_is_an_event(path):
    """With the path, so that an operator can see when a change took effect."""
    file = ReloadingFile(path, read_key, clock=(clock := Clock()))
    replaced(path, b"new\n")
    with audited() as audit:
        for _ in range(3):
            clock.now_s += CHECK_EVERY_S
            file.current()

    assert [{"event": "file_reloaded", "file": str(path)}] == audit.events()
