"""`togetherchat-server keys`: scopes, models and networks of a key, its longest life, and older files."""

import json

import pytest

from support.tenants import Keys
from togetherchat_server.tenants.key_format import key_id_of

DAY_S = 86_400


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path / "keys")


def lines_of(keys):
    return [json.loads(line) for line in keys.path.read_text().splitlines()[1:]]


@pytest.mark.parametrize(
    "words",
    [("--scope", "chat,models"), ("--scope", "chat", "--scope", "models"), ("--scope", "chat, models,chat")],
)
def test_scopes_are_repeated_or_separated_by_commas(keys, words):
    """A scope that is named twice is in the file once."""
    keys.create("acme", *words)

    assert ["chat", "models"] == keys.listed()[0]["scopes"] == lines_of(keys)[0]["scopes"]


def test_models_and_networks_are_repeated(keys):
    """The file has them as they were given."""
    models, networks = ["fast", "Qwen/*", "a,b"], ["10.0.0.0/8", "2001:db8::1"]
    words = [word for model in models for word in ("--model", model)]
    words += [word for network in networks for word in ("--network", network)]
    keys.create("acme", *words)

    (line,) = lines_of(keys)
    assert (models, networks) == (line["models"], line["networks"])
    (row,) = keys.listed()
    assert (models, networks) == (row["models"], row["networks"])


def test_a_key_without_restrictions_has_no_members_for_them(keys):
    """So a service of an older version reads the file."""
    keys.create("acme")

    assert ["id", "tenant", "label", "created", "expires", "revoked", "digest"] == list(lines_of(keys)[0])


@pytest.mark.parametrize("network", ["fe80::1%eth0", "::ffff:10.0.0.0/104"])
def test_a_network_that_matches_no_caller_is_rejected(keys, network):
    """A caller's address has no zone, and that of an IPv4 caller is written as one."""
    status, _, error = keys.run("create", "--tenant", "acme", "--network", network)

    assert (2, True) == (status, "--network must be a list of at most 100 addresses or networks" in error)


def test_models_of_a_key_are_printable(keys):
    """A terminal shows them."""
    status, _, error = keys.run("create", "--tenant", "acme", "--model", "\x1b[31m")

    assert (2, True) == (status, "--model must be a list of at most 100 model names" in error)


def limited(keys, limit, *words):
    """Run the command with the longest life in the environment."""
    environment = {"TOGETHERCHAT_API_KEYS_FILE": str(keys.path), "TOGETHERCHAT_MAX_KEY_AGE_S": limit}
    return keys.run(*words, environment=environment)


@pytest.mark.parametrize("flag", [False, True])
def test_a_key_without_an_expiry_gets_the_longest_life(keys, flag):
    """By the flag or by the variable of the service's setting."""
    limit = str(30 * DAY_S)
    if flag:
        keys.create("acme", "--max-key-age-s", limit)
    else:
        limited(keys, limit, "create", "--tenant", "acme")

    assert ["2029-07-01T00:00:00+00:00"] == [line["expires"] for line in lines_of(keys)]


@pytest.mark.parametrize("expires", ["30d", "2029-07-01", "1h"])
def test_an_expiry_within_the_longest_life_is_kept(keys, expires):
    """The last moment of the longest life, too."""
    status, _, error = limited(keys, str(30 * DAY_S), "create", "--tenant", "acme", "--expires", expires)

    assert 0 == status, error


def test_an_expiry_beyond_the_longest_life_is_rejected(keys):
    """The message names the rule and the latest expiry. No key is created."""
    status, out, error = limited(keys, str(30 * DAY_S), "create", "--tenant", "acme", "--expires", "31d")

    assert (2, "") == (status, out)
    assert "--expires 31d is later than --max-key-age-s (TOGETHERCHAT_MAX_KEY_AGE_S) allows" in error
    assert "at most 2029-07-01T00:00:00+00:00" in error
    assert not keys.path.exists()


@pytest.mark.parametrize("limit", ["", "off"])
def test_without_a_longest_life_keys_do_not_expire(keys, limit):
    """Neither with an empty variable, nor with `off`, as for the service."""
    limited(keys, limit, "create", "--tenant", "acme")

    assert [""] == [line["expires"] for line in lines_of(keys)]


def test_the_flag_for_the_longest_life_wins_over_the_variable(keys):
    """The same order as for every setting."""
    limited(keys, "60", "create", "--tenant", "acme", "--max-key-age-s", "off", "--expires", "90d")

    assert ["2029-08-30T00:00:00+00:00"] == [line["expires"] for line in lines_of(keys)]


def test_an_invalid_longest_life_is_rejected(keys):
    """With the name of the flag and of the variable."""
    status, _, error = limited(keys, "a month", "list")

    assert 2 == status
    assert "--max-key-age-s (TOGETHERCHAT_MAX_KEY_AGE_S): Input should be a valid number" in error


def test_a_revocation_does_not_depend_on_the_longest_life(keys):
    """The command does not read the setting: a mistake in it keeps no key valid."""
    key = keys.create("acme")
    status, _, error = limited(keys, "a month", "revoke", key)

    assert 0 == status, error


def test_list_and_show_have_the_state_at_the_longest_life(keys):
    """A key that was created before the setting was introduced expires with it, as in the service."""
    key = keys.create("acme")
    limit = str(30 * DAY_S)
    states = []
    for day in (1, 20, 29):
        keys.today = keys.today.replace(day=day)
        listed, shown = (
            json.loads(limited(keys, limit, *words, "--json")[1])
            for words in (("list",), ("show", key_id_of(key)))
        )
        assert [shown] == listed
        states.append((shown["state"], shown["expires"]))
    keys.today = keys.today.replace(month=7, day=1)
    states.append(json.loads(limited(keys, limit, "show", key, "--json")[1])["state"])

    end = "2029-07-01T00:00:00+00:00"
    assert [("valid", end), ("expiring", end), ("expiring", end), "expired"] == states


OLDER = (
    '{"togetherchat_keys": 1, "pepper": "' + "5a" * 32 + '"}\n'
    '{"id": "000102030405", "tenant": "acme", "label": "the shop", "created": "2029-01-01T00:00:00+00:00", '
    '"expires": "", "revoked": "", "digest": "' + "00" * 32 + '"}\n'
    '{"id": "0a0b0c0d0e0f", "tenant": "globex", "label": "", "created": "2029-01-01T00:00:00+00:00", '
    '"expires": "2030-01-01T00:00:00+00:00", "revoked": "", "digest": "' + "01" * 32 + '"}\n'
)
"""A file that a version wrote which knew no scopes, models and networks of keys."""


def test_a_revocation_changes_nothing_else_in_an_older_file(keys):
    """The line of the key gets its time, and no member is added."""
    keys.path.write_text(OLDER)
    status, _, error = keys.run("revoke", "000102030405")

    assert 0 == status, error
    assert (
        OLDER.replace('"revoked": ""', '"revoked": "2029-06-01T00:00:00+00:00"', 1) == keys.path.read_text()
    )


def test_the_keys_of_an_older_file_have_the_default_scopes(keys):
    """They may be used with every model and from every address."""
    keys.path.write_text(OLDER)

    defaults = (["chat", "models", "usage"], [], [])
    assert [defaults, defaults] == [(row["scopes"], row["models"], row["networks"]) for row in keys.listed()]
