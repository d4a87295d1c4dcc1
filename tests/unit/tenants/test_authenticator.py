"""Whose call it is: the text of keys, their file, and the ring that knows them."""

import hmac
import json
import re
from datetime import UTC, datetime

import pytest

from support.tenants import Keys, now_of
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.tenants import authenticator as keys_module
from togetherchat_server.tenants.authenticator import EXPIRED, NO_KEY, REVOKED, WRONG, Authenticator
from togetherchat_server.tenants.key_file import KeyTable, read_keys, write_keys
from togetherchat_server.tenants.key_format import format_key, key_id_of

ID, SECRET = bytes(range(6)), bytes(range(32))
TEXT = format_key(ID, SECRET)


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path / "keys")


class Ring:
    """A ring whose clocks stand still until they are moved."""

    def __init__(self, path):
        self.now_s, self.today_s = 100.0, now_of("2030-01-01T00:00:00+00:00")
        self.ring = Authenticator(path, clock=lambda: self.now_s, wall_clock=lambda: self.today_s)

    def tenant_of(self, text):
        return self.ring.identity_of(text).tenant

    def rejection(self, text):
        with pytest.raises(ServiceError) as caught:
            self.tenant_of(text)
        assert Reason.INVALID_CREDENTIALS is caught.value.reason
        return caught.value.message


def test_a_key_says_its_id_and_no_more():
    """The prefix, the id, 43 characters of secret, and a checksum."""
    assert re.fullmatch(r"tc_000102030405_[A-Za-z0-9_-]{43}[0-9a-f]{8}", TEXT)
    assert "000102030405" == key_id_of(TEXT)


@pytest.mark.parametrize("place", range(len(TEXT)))
def test_a_typing_error_makes_it_no_key(place):
    """One wrong character anywhere is noticed without looking at any file."""
    other = "y" if TEXT[place] != "y" else "z"

    assert None is key_id_of(TEXT[:place] + other + TEXT[place + 1 :])


@pytest.mark.parametrize("text", ["", "tc_", TEXT[:-1], TEXT + "0", " " + TEXT, TEXT + "\n", "tgp_v1_abc"])
def test_what_has_another_shape_is_no_key(text):
    """Nothing around it, nothing missing."""
    assert None is key_id_of(text)


def test_the_holder_of_a_key_is_its_tenant(keys):
    """Two keys of one tenant and one of another."""
    first, second, other = (keys.create(tenant) for tenant in ("acme", "acme", "globex"))
    ring = Ring(keys.path)

    assert ["acme", "acme", "globex"] == [ring.tenant_of(text) for text in (first, second, other)]


def test_an_unknown_id_and_a_wrong_secret_are_the_same(keys):
    """The same words, after the same work: nobody learns which ids there are."""
    known = keys.create("acme")
    wrong_secret = format_key(bytes.fromhex(key_id_of(known)), SECRET)
    ring = Ring(keys.path)

    assert [WRONG, WRONG] == [ring.rejection(text) for text in (wrong_secret, TEXT)]


def test_hashes_are_compared_in_constant_time(keys, monkeypatch):
    """Every key of the right form goes through `compare_digest` once, an unknown one too."""
    known, compared = keys.create("acme"), []

    class Watched:
        @staticmethod
        def compare_digest(one, other):
            compared.append((len(one), len(other)))
            return hmac.compare_digest(one, other)

    monkeypatch.setattr(keys_module, "hmac", Watched)
    ring = Ring(keys.path)
    ring.tenant_of(known)
    ring.rejection(TEXT)

    assert [(32, 32), (32, 32)] == compared


def test_a_key_of_another_kind_is_told_where_it_goes(keys):
    """A Together key in the wrong header is a likely mistake."""
    keys.create("acme")

    assert NO_KEY == Ring(keys.path).rejection("tgp_v1_0123")
    assert "x-together-api-key" in NO_KEY


def test_only_its_holder_hears_that_a_key_was_revoked_or_has_expired(keys):
    """Who has the id alone hears what everybody hears."""
    revoked, expired = keys.create("acme"), keys.create("acme", "--expires", "2029-12-31")
    keys.revoke(revoked)
    ring = Ring(keys.path)

    assert (REVOKED, EXPIRED) == (ring.rejection(revoked), ring.rejection(expired))
    assert WRONG == ring.rejection(format_key(bytes.fromhex(key_id_of(revoked)), SECRET))


def test_a_key_expires_while_the_service_runs(keys):
    """The time of day decides, not the reading of the file."""
    text = keys.create("acme", "--expires", "2030-01-02")
    ring = Ring(keys.path)

    assert "acme" == ring.tenant_of(text)
    ring.today_s += 24 * 3600
    assert EXPIRED == ring.rejection(text)


def test_a_changed_file_is_in_effect_within_a_second(keys):
    """Revoked and created: both are seen at the next look, which is a second after the last."""
    old = keys.create("acme")
    ring = Ring(keys.path)
    new = keys.create("acme")
    keys.revoke(old)

    ring.now_s += 0.9
    assert ("acme", WRONG) == (ring.tenant_of(old), ring.rejection(new))
    ring.now_s += 0.1
    assert (REVOKED, "acme") == (ring.rejection(old), ring.tenant_of(new))


@pytest.mark.parametrize("text", ["", "no json", '{"togetherchat_keys": 2}', "[]\n"])
def test_a_broken_file_changes_nothing_and_is_said_once(keys, text, caplog):
    """What was read last stays in force until the file is whole again."""
    key, whole = keys.create("acme"), keys.path.read_text()
    ring = Ring(keys.path)
    keys.path.write_text(text)
    for _ in range(3):
        ring.now_s += 1
        assert "acme" == ring.tenant_of(key)

    assert 1 == len(caplog.records)
    keys.path.write_text(whole)
    keys.revoke(key)
    ring.now_s += 1
    assert REVOKED == ring.rejection(key)


def test_a_file_that_is_gone_changes_nothing_and_is_said_once(keys, caplog):
    """As above; one that comes back is read."""
    key, whole = keys.create("acme"), keys.path.read_text()
    ring = Ring(keys.path)
    keys.path.unlink()
    for _ in range(3):
        ring.now_s += 1
        assert "acme" == ring.tenant_of(key)

    assert 1 == len(caplog.records)
    keys.path.write_text(whole)
    keys.revoke(key)
    ring.now_s += 1
    assert REVOKED == ring.rejection(key)


def test_the_file_holds_no_key(keys):
    """Nothing of the secret, in any spelling; and only the owner may read the file."""
    text = keys.create("acme", "--label", "the shop")
    written = keys.path.read_text()

    secret = text.split("_", 2)[2]
    assert not any(secret[place : place + 8] in written for place in range(len(secret) - 8))
    assert "the shop" in written
    assert 0o600 == keys.path.stat().st_mode & 0o777


def test_two_files_have_different_hashes_for_the_same_key():
    """Each has a pepper of its own."""
    assert KeyTable.new().digest(TEXT) != KeyTable.new().digest(TEXT)


def test_the_file_is_replaced_and_never_written_into(keys):
    """Who has the old one open reads the old one to its end; nothing is left beside it."""
    keys.create("acme")
    with keys.path.open() as held:
        before = keys.path.stat().st_ino
        keys.create("acme")

        assert 2 == len(held.read().splitlines())
    assert before != keys.path.stat().st_ino
    assert [keys.path] == list(keys.path.parent.iterdir())


def test_a_link_stays_a_link(keys, tmp_path):
    """Where the file is a link, what it points at is replaced."""
    keys.create("acme")
    link = tmp_path / "link"
    link.symlink_to(keys.path)
    Keys(link).create("acme")

    assert link.is_symlink()
    assert 2 == len(read_keys(keys.path).keys)


def lines_with(**changed):
    key = {"id": "0" * 12, "tenant": "acme", "created": "2030-01-01T00:00:00+00:00", "digest": "0" * 64}
    head = {"togetherchat_keys": 1, "pepper": "00" * 32}
    return "\n".join([json.dumps(head), json.dumps({**key, **changed})])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (lines_with(tenant="a b"), "line 2: key 000000000000: a tenant's name"),
        (lines_with(id="tc_1"), "line 2: the id"),
        (lines_with(digest="0"), "line 2: the id or the digest"),
        (lines_with(expires="tomorrow"), "line 2: "),
        (lines_with(expires="2030-01-01T00:00:00"), "line 2: 2030-01-01T00:00:00 has no offset"),
        (lines_with(colour="red"), "line 2: members are missing or unknown"),
        (lines_with(label=7), "line 2: every member must be a text"),
        (lines_with() + "\n" + lines_with().splitlines()[1], "line 3: key 000000000000 is there twice"),
        ('{"togetherchat_keys": 1, "pepper": "00"}', "no pepper"),
        ('{"togetherchat_keys": 1}', "no pepper"),
        ("", "line 1 is no JSON object"),
    ],
)
def test_a_wrong_file_says_where(tmp_path, text, said):
    """The line, and what is wrong with it."""
    path = tmp_path / "keys"
    path.write_text(text)

    with pytest.raises(ValueError, match=re.escape(said)):
        read_keys(path)


def test_what_is_written_is_read_again(tmp_path):
    """All members of every key."""
    path, table = tmp_path / "keys", KeyTable.new()
    keys = Keys(path)
    keys.create("acme", "--label", 'änd "so" on', "--expires", "90d")
    table = read_keys(path)
    write_keys(path, table)

    assert table == read_keys(path)


def test_times_are_of_utc():
    """A file means the same on every machine."""
    assert datetime(2030, 1, 1, tzinfo=UTC).timestamp() == now_of("2030-01-01T00:00:00+00:00")
