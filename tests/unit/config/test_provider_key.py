"""The file with the provider's key, and what happens when it is replaced."""

import pytest

from togetherchat_server.config.provider import read_key
from togetherchat_server.config.reloading_file import CHECK_EVERY_S, ReloadingFile
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
    for _ in range(3):
        clock.now_s += CHECK_EVERY_S
        assert Secret("old") == key.current()

    (line,) = [record.getMessage() for record in caplog.records]
    assert str(path) in line
    assert CANARY not in line


def test_a_deleted_key_file_leaves_the_old_key_in_force_and_is_logged(path, caplog):
    """The operator learns that the service would not start again."""
    key = ReloadingFile(path, read_key, clock=(clock := Clock()))
    path.unlink()
    for _ in range(3):
        clock.now_s += CHECK_EVERY_S
        assert Secret("old") == key.current()

    assert 1 == len(caplog.records)
