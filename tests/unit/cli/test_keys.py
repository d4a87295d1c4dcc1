"""`togetherchat-server keys`: what it says, and with which status it ends."""

import asyncio
import json
import multiprocessing
import re

import pytest

from support.tenants import Keys
from togetherchat_server.tenants.key_file import read_keys
from togetherchat_server.tenants.key_format import key_id_of


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path / "keys")


def test_a_key_alone_is_on_standard_output(keys):
    """So that a script can take it; what is said about it is on standard error, without it."""
    status, out, error = keys.run("create", "--tenant", "acme")

    key = out.removesuffix("\n")
    assert 0 == status
    assert f"Key {key_id_of(key)} of acme. It is not shown again.\n" == error


def test_a_key_as_json(keys):
    """The key, and what the list says of it."""
    _, out, error = keys.run("create", "--tenant", "acme", "--label", "shop", "--expires", "12h", "--json")

    made = json.loads(out)
    key = made.pop("key")
    assert "" == error
    assert made == keys.listed()[0]
    assert {
        "id": key_id_of(key),
        "tenant": "acme",
        "label": "shop",
        "created": "2029-06-01T00:00:00+00:00",
        "expires": "2029-06-01T12:00:00+00:00",
        "revoked": "",
        "state": "valid",
    } == made


def test_the_list_shows_nothing_of_secrets(keys):
    """Neither a secret nor a hash, in either form."""
    key = keys.create("acme", "--label", "shop")
    digest = next(iter(read_keys(keys.path).keys.values())).digest

    for words in (("list",), ("list", "--json")):
        _, out, _ = keys.run(*words)
        assert key_id_of(key) in out
        assert key[16:] not in out
        assert digest not in out


def test_the_list_is_a_table(keys):
    """Columns with headings; of one tenant alone if asked."""
    keys.create("acme", "--label", "the shop")
    keys.create("globex")
    _, out, _ = keys.run("list", "--tenant", "acme")

    head, row = out.splitlines()
    assert ["ID", "TENANT", "STATE", "CREATED", "EXPIRES", "LABEL"] == head.split()
    assert re.fullmatch(r"[0-9a-f]{12}  acme +valid +2029-06-01T00:00:00\+00:00 +the shop", row)


def test_states_are_told(keys):
    """Valid, expired, revoked."""
    keys.create("a", "--expires", "1h")
    keys.revoke(keys.create("b"))
    keys.create("c")
    keys.today = keys.today.replace(hour=2)

    assert ["expired", "revoked", "valid"] == [row["state"] for row in keys.listed()]


def test_revoking_twice_is_no_failure(keys):
    """It is as wanted already; the first time stands."""
    key = keys.create("acme")
    keys.revoke(key)
    first = keys.listed()
    keys.today = keys.today.replace(hour=2)
    status, _, error = keys.run("revoke", key_id_of(key))

    assert (0, first) == (status, keys.listed())
    assert "already" in error


@pytest.mark.parametrize("spelt", ["{id}", "tc_{id}", "{key}"])
def test_a_key_is_revoked_by_its_id_however_it_is_spelt(keys, spelt):
    """Who has only the key itself at hand may say it."""
    key = keys.create("acme")
    status, _, error = keys.run("revoke", spelt.format(id=key_id_of(key), key=key))

    assert (0, "revoked") == (status, keys.listed()[0]["state"])
    assert key not in error


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ((), 2, "create|list|revoke"),
        (("create",), 2, "--tenant"),
        (("create", "--tenant", "a b"), 2, "must be 1 to 64 letters"),
        (
            ("create", "--tenant", "a", "--expires", "soon"),
            2,
            "--expires must be like 90d, 12h or 2030-12-31",
        ),
        (("create", "--tenant", "a", "--expires", "2020-01-01"), 2, "is in the past"),
        (("create", "--tenant", "a", "--label", "two\nlines"), 2, "one line"),
        (("revoke", "nonsense"), 2, "twelve hexadecimal digits"),
        (("list",), 1, "`keys create` makes it"),
        (("revoke", "000000000000"), 1, "`keys create` makes it"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(keys, words, status, said):
    """2 where the words are wrong, 1 where they are right and it cannot be done all the same."""
    ended, out, error = keys.run(*words)

    assert (status, "") == (ended, out)
    assert said in error
    assert 1 == len(error.splitlines())


def test_no_such_key(keys):
    """With the file there, and another key in it."""
    keys.create("acme")
    status, _, error = keys.run("revoke", "000000000000")

    assert (1, True) == (status, "there is no key 000000000000" in error)


def test_a_file_of_something_else_is_left_alone(keys):
    """It is not overwritten."""
    keys.path.write_text("precious")
    status, out, error = keys.run("create", "--tenant", "acme")

    assert (1, "", "precious") == (status, out, keys.path.read_text())
    assert "is no file of keys: line 1: is not a JSON object" in error


def test_no_file_was_named(keys):
    """Neither by the flag nor by the environment."""
    status, _, error = keys.run("list", environment={})

    assert 2 == status
    assert "TOGETHERCHAT_API_KEYS_FILE" in error


def test_the_flag_wins_over_the_environment(keys, tmp_path):
    """As everywhere."""
    keys.run("create", "--tenant", "acme", "--api-keys-file", str(tmp_path / "other"))

    assert (True, False) == ((tmp_path / "other").exists(), keys.path.exists())


def test_a_folder_that_is_not_there(tmp_path):
    """Is not made."""
    status, _, error = Keys(tmp_path / "no" / "keys").run("create", "--tenant", "acme")

    assert (1, True) == (status, "No such file or directory" in error)


def _make_ten(path):
    keys = Keys(path)
    for _ in range(10):
        keys.create("acme")


async def test_two_who_write_at_once_lose_nothing(keys):
    """They take turns."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_make_ten, args=(keys.path,)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        await asyncio.to_thread(writer.join)

    assert 20 == len(keys.listed())
