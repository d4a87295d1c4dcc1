"""The format of keys, the API keys file, and the callers that it authenticates."""

import hmac
import json
import re
from datetime import UTC, datetime

import pytest

from support.tenants import Keys, now_of
from togetherchat_server.domain.audit import AUDIT_LOGGER
from togetherchat_server.domain.reasons import Reason
from togetherchat_server.tenants import api_keys
from togetherchat_server.tenants.api_keys import EXPIRED, MISTYPED, REVOKED, TOO_OLD, WRONG, ApiKeys
from togetherchat_server.tenants.expiry_watch import DAY_S
from togetherchat_server.tenants.key_file import KeyTable, read_keys, write_keys
from togetherchat_server.tenants.key_format import format_key, key_id_of

ID, SECRET = bytes(range(6)), bytes(range(32))
TEXT = format_key(ID, SECRET)


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path / "keys")


def warnings_of(caplog):
    """Return the lines of the log, without security events."""
    return [record for record in caplog.records if record.name != AUDIT_LOGGER.name]


class Callers:
    """Callers of an API keys file, whose clocks the test sets."""

    def __init__(self, path, **options):
        self.now_s, self.today_s = 100.0, now_of("2030-01-01T00:00:00+00:00")
        self.keys = ApiKeys(path, clock=lambda: self.now_s, wall_clock=lambda: self.today_s, **options)

    def identity_of(self, text):
        found = self.keys.authenticate(text)
        assert found.rejection is None
        return found.identity

    def tenant_of(self, text):
        return self.identity_of(text).tenant

    def rejection(self, text):
        found = self.keys.authenticate(text)
        assert Reason.INVALID_CREDENTIALS is found.rejection.reason
        assert "" == found.identity.tenant
        return found.rejection.message


def test_a_key_has_a_prefix_an_id_a_secret_and_a_checksum():
    """The prefix, the id, 43 characters of secret, and a checksum."""
    assert re.fullmatch(r"tc_000102030405_[A-Za-z0-9_-]{43}[0-9a-f]{8}", TEXT)
    assert "000102030405" == key_id_of(TEXT)


@pytest.mark.parametrize("index", range(len(TEXT)))
def test_a_typing_error_is_detected(index):
    """One wrong character anywhere is detected without reading any file."""
    other = "y" if TEXT[index] != "y" else "z"

    assert None is key_id_of(TEXT[:index] + other + TEXT[index + 1 :])


@pytest.mark.parametrize("text", ["", "tc_", TEXT[:-1], TEXT + "0", " " + TEXT, TEXT + "\n", "tgp_v1_abc"])
def test_a_text_in_another_format_is_not_a_key(text):
    """Neither with characters around the key nor with some missing."""
    assert None is key_id_of(text)


def test_a_key_identifies_its_tenant(keys):
    """Two keys of one tenant and one of another."""
    first, second, other = (keys.create(tenant) for tenant in ("acme", "acme", "globex"))
    callers = Callers(keys.path)

    assert ["acme", "acme", "globex"] == [callers.tenant_of(text) for text in (first, second, other)]


def test_an_unknown_id_and_a_wrong_secret_get_the_same_error(keys):
    """The message and the work are the same, so a caller cannot find out which ids exist."""
    known = keys.create("acme")
    wrong_secret = format_key(bytes.fromhex(key_id_of(known)), SECRET)
    callers = Callers(keys.path)

    assert [WRONG, WRONG] == [callers.rejection(text) for text in (wrong_secret, TEXT)]


def test_hashes_are_compared_in_constant_time(keys, monkeypatch):
    """Every well-formed key goes through `compare_digest` once, an unknown one too."""
    known, compared = keys.create("acme"), []

    class RecordingHmac:
        @staticmethod
        def compare_digest(one, other):
            compared.append((len(one), len(other)))
            return hmac.compare_digest(one, other)

    monkeypatch.setattr(api_keys, "hmac", RecordingHmac)
    callers = Callers(keys.path)
    callers.tenant_of(known)
    callers.rejection(TEXT)

    assert [(32, 32), (32, 32)] == compared


def test_a_mistyped_key_is_rejected_as_one(keys):
    """The caller learns that it is not the service that does not know the key."""
    text = keys.create("acme")

    assert MISTYPED == Callers(keys.path).rejection(text[:-1])


def test_only_the_holder_learns_that_a_key_was_revoked_or_has_expired(keys):
    """A caller that knows only the id gets the same error as everybody else."""
    revoked, expired = keys.create("acme"), keys.create("acme", "--expires", "2029-12-31")
    keys.revoke(revoked)
    callers = Callers(keys.path)

    assert (REVOKED, EXPIRED) == (callers.rejection(revoked), callers.rejection(expired))
    assert WRONG == callers.rejection(format_key(bytes.fromhex(key_id_of(revoked)), SECRET))


def test_a_key_expires_while_the_service_runs(keys):
    """The time of the call decides, not that of reading the file."""
    text = keys.create("acme", "--expires", "2030-01-02")
    callers = Callers(keys.path)

    assert "acme" == callers.tenant_of(text)
    callers.today_s += 24 * 3600
    assert EXPIRED == callers.rejection(text)


def test_a_key_is_rejected_at_the_greatest_age(keys):
    """With the expiry of the key or without; an earlier expiry counts."""
    plain, later, sooner = (
        keys.create("acme", *words)
        for words in ((), ("--expires", "2031-01-01"), ("--expires", "2030-01-02"))
    )
    created_s = keys.today.timestamp()
    callers = Callers(keys.path, max_age_s=300 * DAY_S)

    assert ["acme"] * 3 == [callers.tenant_of(text) for text in (plain, later, sooner)]
    callers.today_s = created_s + 300 * DAY_S
    assert [TOO_OLD, TOO_OLD, EXPIRED] == [callers.rejection(text) for text in (plain, later, sooner)]


def test_a_key_that_is_in_use_and_expires_soon_is_logged_once_a_day(keys, caplog):
    """In its last two weeks; the log has its id and its tenant."""
    text = keys.create("acme", "--expires", "2030-01-20")
    callers = Callers(keys.path)
    logged = []
    for _ in range(10):
        callers.tenant_of(text)
        callers.tenant_of(text)
        logged.append(len(warnings_of(caplog)))
        callers.today_s += DAY_S

    assert [0, 0, 0, 0, 0, 0, 1, 2, 3, 4] == logged
    assert f"key {key_id_of(text)} of tenant acme expires in 13.0 days" in warnings_of(caplog)[0].getMessage()


def test_the_earliest_expiry_counts_keys_that_were_used_within_a_day(keys):
    """A key that was replaced may expire; a rejected one does not count."""
    first, second = (keys.create("acme", "--expires", day) for day in ("2030-01-05", "2030-02-01"))
    never = keys.create("acme")
    callers = Callers(keys.path)

    assert float("inf") == callers.keys.earliest_expiry_s()
    for text in (first, second, never):
        callers.tenant_of(text)
    assert now_of("2030-01-05T00:00:00+00:00") == callers.keys.earliest_expiry_s()
    callers.today_s += DAY_S
    callers.tenant_of(second)
    assert now_of("2030-02-01T00:00:00+00:00") == callers.keys.earliest_expiry_s()


def test_a_changed_file_takes_effect_within_a_second(keys):
    """A revoked and a new key are both seen at the next check, a second after the last one."""
    old = keys.create("acme")
    callers = Callers(keys.path)
    new = keys.create("acme")
    keys.revoke(old)

    callers.now_s += 0.9
    assert ("acme", WRONG) == (callers.tenant_of(old), callers.rejection(new))
    callers.now_s += 0.1
    assert (REVOKED, "acme") == (callers.rejection(old), callers.tenant_of(new))


@pytest.mark.parametrize("text", ["", "no json", '{"togetherchat_keys": 2}', "[]\n"])
def test_an_invalid_file_changes_nothing_and_is_logged_once(keys, text, caplog):
    """The last valid contents stay in effect until the file is valid again."""
    key, valid = keys.create("acme"), keys.path.read_text()
    callers = Callers(keys.path)
    keys.path.write_text(text)
    for _ in range(3):
        callers.now_s += 1
        assert "acme" == callers.tenant_of(key)

    assert 1 == len(warnings_of(caplog))
    keys.path.write_text(valid)
    keys.revoke(key)
    callers.now_s += 1
    assert REVOKED == callers.rejection(key)


def test_a_deleted_file_changes_nothing_and_is_logged_once(keys, caplog):
    """The last contents stay in effect; a file that is created again is read."""
    key, valid = keys.create("acme"), keys.path.read_text()
    callers = Callers(keys.path)
    keys.path.unlink()
    for _ in range(3):
        callers.now_s += 1
        assert "acme" == callers.tenant_of(key)

    assert 1 == len(warnings_of(caplog))
    keys.path.write_text(valid)
    keys.revoke(key)
    callers.now_s += 1
    assert REVOKED == callers.rejection(key)


def test_the_file_holds_no_key(keys):
    """No part of the secret is in it, and only the owner may read the file."""
    text = keys.create("acme", "--label", "the shop")
    written = keys.path.read_text()

    secret = text.split("_", 2)[2]
    assert not any(secret[start : start + 8] in written for start in range(len(secret) - 8))
    assert "the shop" in written
    assert 0o600 == keys.path.stat().st_mode & 0o777


def test_two_files_have_different_hashes_for_the_same_key():
    """Each file has its own pepper."""
    assert KeyTable.new().digest(TEXT) != KeyTable.new().digest(TEXT)


def test_the_file_is_replaced_and_never_written_in_place(keys):
    """A reader that has the old file open reads it to its end; no other file is left in the folder."""
    keys.create("acme")
    with keys.path.open() as held:
        before = keys.path.stat().st_ino
        keys.create("acme")

        assert 2 == len(held.read().splitlines())
    assert before != keys.path.stat().st_ino
    assert [keys.path] == list(keys.path.parent.iterdir())


def test_a_symbolic_link_is_kept(keys, tmp_path):
    """If the file is a link, the file that it points to is replaced."""
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
    ("text", "message"),
    [
        (lines_with(tenant="a b"), "line 2: tenant: must be 1 to 64 letters"),
        (lines_with(id="tc_1"), "line 2: id: must be 12 hexadecimal digits"),
        (lines_with(digest="0"), "line 2: digest: must be 64 hexadecimal digits"),
        (lines_with(expires="tomorrow"), "line 2: expires: must be an ISO 8601 time"),
        (
            lines_with(expires="2030-01-01T00:00:00"),
            "line 2: expires: must be an ISO 8601 time with an offset",
        ),
        (lines_with(colour="red"), "line 2: unknown member 'colour'; known members: id, tenant, label"),
        (lines_with(**{"k" * 67: "x"}), "line 2: unknown member (a name of 67 characters); known"),
        (lines_with().replace('"tenant": "acme", ', ""), "line 2: tenant: is missing"),
        (
            lines_with(scopes=["root"]),
            "line 2: scopes: must be a list of the scopes chat, models, usage, admin",
        ),
        (lines_with(scopes="chat"), "line 2: scopes: must be a list of the scopes"),
        (lines_with(networks=["10.0.0.0/40"]), "line 2: networks: must be a list of at most 100 addresses"),
        (lines_with(models=[""]), "line 2: models: must be a list of at most 100 model names"),
        (lines_with(label=7), "line 2: label: must be at most 128 printable characters"),
        (lines_with() + "\n" + lines_with().splitlines()[1], "line 3: key 000000000000 is in the file twice"),
        (
            '{"togetherchat_keys": 1, "pepper": "00"}',
            "line 1: pepper: must be at least 32 bytes in hexadecimal",
        ),
        ('{"togetherchat_keys": 1}', "line 1: pepper: is missing"),
        ('{"togetherchat_keys": 2, "pepper": "00"}', "line 1: togetherchat_keys: must be 1"),
        ("", "line 1: is not a JSON object"),
    ],
)
def test_an_invalid_file_is_rejected_with_the_line_and_the_rule(tmp_path, text, message):
    """The error names the member, and never repeats its value."""
    path = tmp_path / "keys"
    path.write_text(text)

    with pytest.raises(ValueError, match="^" + re.escape(message)):
        read_keys(path)


def test_a_written_file_reads_back_unchanged(tmp_path):
    """With all members of every key."""
    path, table = tmp_path / "keys", KeyTable.new()
    keys = Keys(path)
    keys.create("acme", "--label", 'änd "so" on', "--expires", "90d")
    table = read_keys(path)
    write_keys(path, table)

    assert table == read_keys(path)


def test_times_are_in_utc():
    """A file has the same meaning on every machine."""
    assert datetime(2030, 1, 1, tzinfo=UTC).timestamp() == now_of("2030-01-01T00:00:00+00:00")
