import base64
import pickle
from urllib.parse import quote

import pytest

from togetherchat_server.domain.secret import KEY_CHARACTERS_MAX, Secret

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


LONG = "tgp_v1_Canary/0123456789+abcdefghijklmnop"


@pytest.mark.parametrize(
    "echo",
    [
        LONG,
        f"Bearer {LONG}",
        quote(LONG, safe=""),
        LONG.encode().hex(),
        LONG.encode().hex().upper(),
        LONG[::-1],
        *(
            base64.b64encode(f"{before}{LONG}{after}".encode()).decode()
            for before in ("", "x", "Bearer ", "user:")
            for after in ("", "!", ":secret")
        ),
        base64.urlsafe_b64encode(LONG.encode()).decode(),
    ],
)
def test_the_forms_of_a_key_are_found_in_a_text(echo):
    """What is left of an encoded key, at its edges, is too short to be of use."""
    text = f"the key {echo} is not valid"
    for form in Secret(LONG).forms():
        text = text.replace(form, "[key]")

    left = text.removeprefix("the key ").removesuffix(" is not valid")
    assert "[key]" in left
    assert len(left) <= len("[key]") + 24


def test_a_short_key_has_no_short_forms():
    """The hexadecimal digits of a short key could be part of any word."""
    assert {"abc"} == set(Secret("abc").forms())


def test_a_keyed_hash_depends_on_the_key_and_on_each_part():
    """Parts that are divided differently are other parts, and the key does not appear."""
    hashes = [
        Secret(LONG).keyed_hash([b"ab", b"c"]),
        Secret(LONG).keyed_hash([b"a", b"bc"]),
        Secret(LONG).keyed_hash([b"abc"]),
        Secret(LONG).keyed_hash([]),
        Secret(LONG + "x").keyed_hash([b"ab", b"c"]),
    ]

    assert len(hashes) == len(set(hashes))
    assert all(len(made) == 32 and LONG not in made for made in hashes)
    assert hashes[0] == Secret(f" {LONG}\n").keyed_hash(iter([b"ab", b"c"]))
