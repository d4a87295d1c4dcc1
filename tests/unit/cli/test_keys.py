"""`togetherchat-server keys`: output and exit status."""

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


def test_only_the_key_is_on_standard_output(keys):
    """So that a script can read it. The message on standard error does not contain it."""
    status, out, error = keys.run("create", "--tenant", "acme")

    key = out.removesuffix("\n")
    assert 0 == status
    assert f"Created key {key_id_of(key)} of acme. The key is not shown again.\n" == error


def test_create_prints_json_on_request(keys):
    """The object has the key, and the fields that `list` shows."""
    _, out, error = keys.run("create", "--tenant", "acme", "--label", "shop", "--expires", "12h", "--json")

    created = json.loads(out)
    key = created.pop("key")
    assert "" == error
    assert created == keys.listed()[0]
    assert {
        "id": key_id_of(key),
        "tenant": "acme",
        "label": "shop",
        "created": "2029-06-01T00:00:00+00:00",
        "expires": "2029-06-01T12:00:00+00:00",
        "revoked": "",
        "state": "valid",
    } == created


def test_the_list_shows_no_secrets(keys):
    """Neither a secret nor a hash, as a table or as JSON."""
    key = keys.create("acme", "--label", "shop")
    digest = next(iter(read_keys(keys.path).keys.values())).digest

    for arguments in (("list",), ("list", "--json")):
        _, out, _ = keys.run(*arguments)
        assert key_id_of(key) in out
        assert key[16:] not in out
        assert digest not in out


def test_the_list_is_a_table(keys):
    """It has column headings, and shows one tenant only on request."""
    keys.create("acme", "--label", "the shop")
    keys.create("globex")
    _, out, _ = keys.run("list", "--tenant", "acme")

    head, row = out.splitlines()
    assert ["ID", "TENANT", "STATE", "CREATED", "EXPIRES", "LABEL"] == head.split()
    assert re.fullmatch(r"[0-9a-f]{12}  acme +valid +2029-06-01T00:00:00\+00:00 +the shop", row)


def test_the_list_shows_the_state_of_each_key(keys):
    """A key is valid, expired or revoked."""
    keys.create("a", "--expires", "1h")
    keys.revoke(keys.create("b"))
    keys.create("c")
    keys.today = keys.today.replace(hour=2)

    assert ["expired", "revoked", "valid"] == [row["state"] for row in keys.listed()]


def test_revoking_a_revoked_key_succeeds(keys):
    """The time of the first revocation is kept."""
    key = keys.create("acme")
    keys.revoke(key)
    first = keys.listed()
    keys.today = keys.today.replace(hour=2)
    status, _, error = keys.run("revoke", key_id_of(key))

    assert (0, first) == (status, keys.listed())
    assert "already" in error


@pytest.mark.parametrize("form", ["{id}", "tc_{id}", "{key}"])
def test_a_key_is_revoked_by_its_id_or_its_text(keys, form):
    """The message does not repeat the key."""
    key = keys.create("acme")
    status, _, error = keys.run("revoke", form.format(id=key_id_of(key), key=key))

    assert (0, "revoked") == (status, keys.listed()[0]["state"])
    assert key not in error


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
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
        (("revoke", "nonsense"), 2, "must be the 12 hexadecimal digits after tc_"),
        (("list",), 1, "does not exist; `keys create` creates it"),
        (("revoke", "000000000000"), 1, "does not exist; `keys create` creates it"),
    ],
)
def test_a_failure_is_one_line_and_an_exit_status(keys, arguments, status, message):
    """2 for invalid arguments, 1 for any other failure."""
    exit_status, out, error = keys.run(*arguments)

    assert (status, "") == (exit_status, out)
    assert message in error
    assert 1 == len(error.splitlines())


def test_revoking_an_unknown_key_fails(keys):
    """The message names the id."""
    keys.create("acme")
    status, _, error = keys.run("revoke", "000000000000")

    assert (1, True) == (status, "has no key 000000000000" in error)


def test_a_file_in_another_format_is_not_overwritten(keys):
    """The message names the line that is wrong."""
    keys.path.write_text("precious")
    status, out, error = keys.run("create", "--tenant", "acme")

    assert (1, "", "precious") == (status, out, keys.path.read_text())
    assert "is not an API keys file: line 1: is not a JSON object" in error


def test_without_a_file_name_the_command_fails(keys):
    """Neither the flag nor the environment names one."""
    status, _, error = keys.run("list", environment={})

    assert 2 == status
    assert "TOGETHERCHAT_API_KEYS_FILE" in error


def test_the_flag_wins_over_the_environment(keys, tmp_path):
    """The same order as for every setting."""
    keys.run("create", "--tenant", "acme", "--api-keys-file", str(tmp_path / "other"))

    assert (True, False) == ((tmp_path / "other").exists(), keys.path.exists())


def test_a_missing_folder_is_not_created(tmp_path):
    """The command fails."""
    status, _, error = Keys(tmp_path / "no" / "keys").run("create", "--tenant", "acme")

    assert (1, True) == (status, "No such file or directory" in error)


def _create_ten(path):
    keys = Keys(path)
    for _ in range(10):
        keys.create("acme")


async def test_concurrent_writers_lose_no_key(keys):
    """They write one after the other."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_create_ten, args=(keys.path,)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        await asyncio.to_thread(writer.join)

    assert 20 == len(keys.listed())
