import pickle

import pytest

from togetherchat_server.domain.secret import KEY_CHARACTERS_MAX, KeyFile, Secret

CANARY = "tgp_v1_canary"


def test_white_space_around_a_key_is_taken_off():
    """A mounted secret ends in a newline; the key does not."""
    assert Secret(f" {CANARY}\n").reveal() == CANARY


@pytest.mark.parametrize(
    "text",
    ["", " \n", f"{CANARY}\nx", f"{CANARY} x", f"{CANARY}\x00", f"{CANARY}é", "k" * (KEY_CHARACTERS_MAX + 1)],
)
def test_a_key_that_no_header_may_carry_is_refused_without_repeating_it(text):
    """The refusal of a key says what is wrong and shows nothing of the key."""
    with pytest.raises(ValueError, match="the key") as caught:
        Secret(text)

    assert CANARY not in str(caught.value)


def test_a_key_shows_nothing_of_itself():
    """Neither printing nor pickling gives a key away."""
    secret = Secret(CANARY)

    assert CANARY not in f"{secret!r} {secret} {secret.fingerprint()}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_keys_are_told_apart_by_their_fingerprints():
    """Equal keys have equal fingerprints, others have others."""
    assert Secret("a").fingerprint() == Secret("a ").fingerprint()
    assert Secret("a").fingerprint() != Secret("b").fingerprint()


def test_a_replaced_key_file_is_read_again(tmp_path):
    """Rotation needs no restart."""
    path = tmp_path / "key"
    path.write_text("old\n")
    key = KeyFile(path)
    before = key.current()

    new = tmp_path / "new"
    new.write_text("new\n")
    new.replace(path)

    assert (Secret("old"), Secret("new")) == (before, key.current())


@pytest.mark.parametrize("text", ["", "two words", "é"])
def test_an_unusable_replacement_leaves_the_old_key_in_force(tmp_path, text):
    """A file that is half written, or gone, does not take the service down."""
    path = tmp_path / "key"
    path.write_text("old\n")
    key = KeyFile(path)

    path.write_text(text)
    unusable = key.current()
    path.unlink()

    assert (Secret("old"), Secret("old")) == (unusable, key.current())
