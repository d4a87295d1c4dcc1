"""The owner and the mode of the API keys file, which operators and the service share."""

import os
import stat

import pytest

from support.tenants import Keys
from togetherchat_server.tenants import key_file


@pytest.fixture
def keys(tmp_path):
    keys = Keys(tmp_path / "keys")
    keys.text = keys.create("acme")
    return keys


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_is_its_owners_alone(keys):
    """Nobody else can read it."""
    assert 0o600 == mode_of(keys.path)


@pytest.mark.parametrize("mode", [0o640, 0o660, 0o400])
def test_a_replaced_file_keeps_its_mode(keys, mode):
    """A service that reads the file through its group can still read it after a key was revoked."""
    keys.path.chmod(mode)
    keys.revoke(keys.text)

    assert mode == mode_of(keys.path)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_file_that_root_replaces_keeps_its_owner(keys):
    """The service runs as another user, and must learn that the key was revoked."""
    os.chown(keys.path, 12345, 23456)
    keys.path.chmod(0o600)
    keys.revoke(keys.text)

    assert (12345, 23456, 0o600) == (keys.path.stat().st_uid, keys.path.stat().st_gid, mode_of(keys.path))


def test_a_file_that_cannot_be_given_to_its_owner_is_not_replaced(keys, monkeypatch):
    """Otherwise the service could not read it, and the revoked key would go on."""
    before = keys.path.read_bytes()

    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(key_file.os, "fchmod", refused)
    status, _, error = keys.run("revoke", keys.listed()[0]["id"])

    assert (1, before) == (status, keys.path.read_bytes())
    assert "cannot read or write the API keys file" in error
    assert [keys.path] == list(keys.path.parent.iterdir())


def test_a_file_that_is_in_the_way_is_not_followed(keys):
    """The temporary file has a name that nobody can predict."""
    target = keys.path.with_name("victim")
    target.write_text("untouched")
    for name in (".keys.new", f".keys.{os.getpid()}.new"):
        keys.path.with_name(name).symlink_to(target)
    keys.revoke(keys.text)

    assert "untouched" == target.read_text()
