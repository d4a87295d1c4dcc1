import pytest

from togetherchat_server.domain.origins import Origin

ORIGINS = [
    ("https://chat.example.com", ("https", "chat.example.com", 443)),
    ("HTTPS://Chat.Example.com:443", ("https", "chat.example.com", 443)),
    ("http://localhost:5173", ("http", "localhost", 5173)),
    ("http://[::1]:3000", ("http", "[::1]", 3000)),
    ("app://obsidian.md", ("app", "obsidian.md", None)),
    ("tauri://localhost", ("tauri", "localhost", None)),
    ("chrome-extension://mkfpmkjbdckpapenmjjgdodnhcfdnoje", ("chrome-extension", "mkfpmkjbdckpapenmjjgdodnhcfdnoje", None)),
]  # fmt: skip
OTHERS = [
    "", "null", "*", "chat.example.com", "https://", "https://a/", "https://a/b", "https://u@a", "https://a:x",
    "https://a:123456", "https://a,https://b", "https://a, https://b", "https://a b", "https://a\n", "https://a\tb",
    "https://a\\@b", "https://a#", "https://a?", "//a", "://a", "1a://b", "https://[a",
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ORIGINS)
def test_an_origin_has_a_scheme_a_host_and_a_port(text, expected):
    """Case does not matter, and a default port is the same as none."""
    assert expected == Origin.parse(text)


@pytest.mark.parametrize("text", OTHERS)
def test_other_texts_are_not_origins(text):
    """`null` is not one: any page can have it, from within a sandboxed frame."""
    assert Origin.parse(text) is None


@pytest.mark.parametrize(
    ("origin", "authority", "expected"),
    [
        ("https://chat.example.com", "chat.example.com", True),
        ("https://chat.example.com", "chat.example.com:443", True),
        ("https://chat.example.com:443", "CHAT.example.com", True),
        ("http://chat.example.com", "chat.example.com:80", True),
        ("http://localhost:3000", "localhost:3000", True),
        ("http://[::1]:3000", "[::1]:3000", True),
        ("https://chat.example.com", "chat.example.com:80", False),
        ("http://chat.example.com", "chat.example.com:443", False),
        ("http://localhost:3000", "localhost", False),
        ("http://localhost", "localhost:3000", False),
        ("https://chat.example.com", "example.com", False),
        ("app://localhost", "localhost", False),
        ("https://chat.example.com", "", False),
        ("https://a", "a, a", False),
    ],
)
def test_a_default_port_is_the_same_as_none(origin, authority, expected):
    """Only a page that was loaded over HTTP or HTTPS comes from a server."""
    parsed = Origin.parse(origin)

    assert parsed is not None
    assert expected == parsed.is_at(authority)
