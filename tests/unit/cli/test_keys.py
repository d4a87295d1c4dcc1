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
        "scopes": ["chat", "models", "usage"],
        "models": [],
        "networks": [],
        "state": "expiring",
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
    """It has column headings, scopes, and the numbers of models and networks; one tenant only on request."""
    restrictions = ("--model", "fast", "--model", "Qwen/*", "--network", "10.0.0.0/8")
    keys.create("acme", "--label", "the shop", "--scope", "chat,usage", *restrictions)
    keys.create("acme", "--expires", "2030-01-01")
    keys.create("globex")
    _, out, _ = keys.run("list", "--tenant", "acme")

    head, *rows = (re.split(r" {2,}", line) for line in out.splitlines())
    created = "2029-06-01T00:00:00+00:00"
    columns = ["TENANT", "STATE", "SCOPES", "MODELS", "NETWORKS", "CREATED", "EXPIRES", "LABEL"]
    assert ["ID", *columns] == head
    assert [
        ["acme", "valid", "chat,usage", "2", "1", created, "-", "the shop"],
        ["acme", "valid", "chat,models,usage", "-", "-", created, "2030-01-01T00:00:00+00:00", "-"],
    ] == [row[1:] for row in rows]


def test_the_list_shows_the_state_of_each_key(keys):
    """A key is valid, expiring in its last 14 days, expired or revoked."""
    for expires in ("1h", "14d", "15d"):
        keys.create("a", "--expires", expires)
    keys.revoke(keys.create("b"))
    keys.create("c")
    keys.today = keys.today.replace(hour=2)

    assert ["expired", "expiring", "valid", "revoked", "valid"] == [row["state"] for row in keys.listed()]


def test_the_list_of_expiring_keys(keys):
    """It has neither the keys that are valid for longer, nor those that are rejected already."""
    for expires in ("1h", "13d", "90d"):
        keys.create("acme", "--expires", expires)
    keys.revoke(keys.create("acme", "--expires", "13d"))
    keys.create("globex", "--expires", "13d")
    keys.today = keys.today.replace(hour=2)

    assert [("acme", "2029-06-14T00:00:00+00:00"), ("globex", "2029-06-14T00:00:00+00:00")] == [
        (row["tenant"], row["expires"]) for row in keys.listed("--expiring")
    ]
    assert ["acme"] == [row["tenant"] for row in keys.listed("--expiring", "--tenant", "acme")]


def test_one_key_is_shown_with_all_its_members(keys):
    """As lines and as JSON, without the key and without its hash."""
    key = keys.create("acme", "--model", "fast", "--model", "Qwen/*", "--network", "10.0.0.0/8")
    key_id = key_id_of(key)
    digest = read_keys(keys.path).keys[key_id].digest
    status, lines, _ = keys.run("show", key_id)
    _, text, _ = keys.run("show", key_id, "--json")

    assert keys.listed()[0] == json.loads(text)
    assert (0, list(json.loads(text))) == (status, [line.split()[0] for line in lines.splitlines()])
    assert "\nmodels    fast, Qwen/*\n" in lines
    assert "\nexpires   -\n" in lines
    for secret in (key[16:], digest):
        assert secret not in lines + text


def test_revoking_a_revoked_key_succeeds(keys):
    """The time of the first revocation is kept."""
    key = keys.create("acme")
    keys.revoke(key)
    first = keys.listed()
    keys.today = keys.today.replace(hour=2)
    status, _, error = keys.run("revoke", key_id_of(key))

    assert (0, first) == (status, keys.listed())
    assert "already" in error


def test_all_keys_of_a_tenant_are_revoked(keys):
    """Each is named. Those that were revoked before keep their time, and other tenants keep their keys."""
    earlier, *others = [keys.create("acme") for _ in range(3)]
    keys.create("globex")
    keys.revoke(earlier)
    keys.today = keys.today.replace(hour=2)
    status, out, error = keys.run("revoke", "--tenant", "acme")

    assert (0, "") == (status, out)
    before, now = "2029-06-01T00:00:00+00:00", "2029-06-01T02:00:00+00:00"
    assert [before, now, now, ""] == [row["revoked"] for row in keys.listed()]
    assert [
        f"Key {key_id_of(earlier)} of acme was already revoked at {before}.",
        *(f"Revoked key {key_id_of(key)} of acme." for key in others),
    ] == error.splitlines()


def test_revoke_prints_the_ids_as_json_on_request(keys):
    """Those of the keys that were not revoked before."""
    earlier, *others = [key_id_of(keys.create("acme")) for _ in range(3)]
    for arguments, revoked in (([earlier], [earlier]), (["--tenant", "acme"], others), ([earlier], [])):
        status, out, error = keys.run("revoke", *arguments, "--json")

        assert (0, revoked, "") == (status, json.loads(out), error)


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
        ((), 2, "create|list|show|revoke"),
        (("create",), 2, "--tenant"),
        (("create", "--tenant", "a b"), 2, "must be 1 to 64 letters"),
        (
            ("create", "--tenant", "a", "--expires", "soon"),
            2,
            "--expires must be like 90d, 12h or 2030-12-31",
        ),
        (("create", "--tenant", "a", "--expires", "2020-01-01"), 2, "is in the past"),
        (
            ("create", "--tenant", "a", "--label", "two\nlines"),
            2,
            "--label must be at most 128 printable characters",
        ),
        (
            ("create", "--tenant", "a", "--scope", "chat,root"),
            2,
            "--scope must be a list of the scopes chat,",
        ),
        (("create", "--tenant", "a", "--model", ""), 2, "--model must be a list of at most 100 model names"),
        (
            ("create", "--tenant", "a", "--network", "10.0.0.0/40"),
            2,
            "--network must be a list of at most 100",
        ),
        (("create", "--tenant", "a", "--max-key-age-s", "-1"), 2, "--max-key-age-s (TOGETHERCHAT_MAX_KEY_AG"),
        (("revoke", "nonsense"), 2, "must be the 12 hexadecimal digits after tc_"),
        (("revoke",), 2, "one of the arguments ID --tenant is required"),
        (("revoke", "000000000000", "--tenant", "a"), 2, "not allowed with argument"),
        (("show", "000000000000"), 1, "does not exist; `keys create` creates it"),
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("revoke", "000000000000"), "has no key 000000000000"),
        (("show", "000000000000"), "has no key 000000000000"),
        (("revoke", "--tenant", "globex"), "has no key of tenant 'globex'"),
        (("revoke", "--tenant", ""), "has no key of tenant ''"),
    ],
)
def test_a_key_that_is_not_in_the_file_is_a_failure(keys, arguments, message):
    """The message names the id or the tenant, and the file is not changed."""
    keys.create("acme")
    before = keys.path.read_text()
    status, _, error = keys.run(*arguments)

    assert (1, True) == (status, message in error)
    assert before == keys.path.read_text()


def test_a_key_in_the_wrong_place_is_not_repeated(keys):
    """The message about an argument too many has the id of the key alone."""
    first, second = keys.create("acme"), keys.create("acme")
    status, _, error = keys.run("revoke", first, second)

    assert (2, True) == (status, f"unrecognized arguments: tc_{key_id_of(second)};" in error)
    assert second[16:] not in error


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
