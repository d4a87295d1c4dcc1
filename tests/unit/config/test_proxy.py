"""Which egress proxy a URL is requested through."""

import pytest

from togetherchat_server.config.proxy import Proxy, parse_proxy, proxy_from_environment

PROVIDER = "https://api.together.ai/v1"
PROXY = "http://proxy.example.com:3128"


def proxied(url=PROVIDER, **environment):
    """The address of the proxy for a URL, or None."""
    proxy = proxy_from_environment(url, environment)
    return None if proxy is None else str(proxy)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (PROXY, PROXY),
        ("proxy.example.com:3128", PROXY),
        ("http://proxy.example.com", "http://proxy.example.com:80"),
        ("https://proxy.example.com/", "https://proxy.example.com:443"),
        ("HTTPS://Proxy.Example.com", "https://proxy.example.com:443"),
        ("socks5://10.0.0.1", "socks5://10.0.0.1:1080"),
        ("socks5h://10.0.0.1:9", "socks5h://10.0.0.1:9"),
        ("http://[2001:db8::1]:3128", "http://[2001:db8::1]:3128"),
    ],
)
def test_addresses_of_proxies(text, address):
    """A scheme and a port may be missing, as in curl."""
    assert address == str(parse_proxy(text))


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "ftp://proxy:1", "socks4://proxy:1", "http://", "http://:3128", "http://proxy:0", "http://proxy:x",
        "http://proxy:99999", "http://proxy/path", "http://proxy?a=b", "http://[::1", "http://us%3Aer:pw@proxy",
        "http://us%0Aer:pw@proxy", "http://user:p%C3%A4ss@proxy", "http://user:%0d%0a@proxy",
    ],
)  # fmt: skip
def test_an_invalid_address_is_rejected_without_being_quoted(text):
    """An address may contain a password."""
    with pytest.raises(ValueError, match=r"must|user") as caught:
        parse_proxy(text)
    assert "user:" not in str(caught.value)
    assert "pw" not in str(caught.value)


def test_credentials_are_decoded_and_never_printed():
    """User and password are percent-encoded in the URL."""
    proxy = parse_proxy("http://us%40er:p%2Fa%20ss%3A@proxy:1")

    assert (proxy.user, proxy.password) == ("us@er", "p/a ss:")
    assert "ss" not in f"{proxy} {proxy!r}"


def test_https_and_http_urls_have_their_own_variables():
    """`all_proxy` is for both."""
    both = {"https_proxy": "http://a:1", "http_proxy": "http://b:1"}

    assert "http://a:1" == proxied(**both)
    assert "http://b:1" == proxied("http://provider.example/v1", **both)
    assert "socks5://c:1080" == proxied(all_proxy="socks5://c")
    assert "http://a:1" == proxied(all_proxy="socks5://c", **both)
    assert proxied(http_proxy="http://b:1") is None
    assert proxied() is None


def test_lower_case_wins_over_upper_case():
    """As in curl and in Python's own library. An empty variable is as if it were absent."""
    assert "http://a:1" == proxied(HTTPS_PROXY="http://b:1", https_proxy="http://a:1")
    assert "http://b:1" == proxied(HTTPS_PROXY="http://b:1", https_proxy="")
    assert "http://b:1" == proxied(ALL_PROXY="http://b:1", https_proxy=" ")


@pytest.mark.parametrize("url", ["http://localhost:8000/v1", "http://127.0.0.1:8000/v1", "http://[::1]/v1"])
def test_loopback_needs_no_proxy(url):
    """A proxy on another machine would reach itself."""
    assert proxied(url, http_proxy=PROXY, all_proxy=PROXY) is None


@pytest.mark.parametrize(
    "no_proxy",
    [
        "*", "together.ai", ".together.ai", "*.together.ai", "API.Together.AI", "api.together.ai:443",
        "a.example, together.ai", "a.example together.ai", "together.ai.", ".ai",
    ],
)  # fmt: skip
def test_names_without_a_proxy(no_proxy):
    """A name includes its subdomains; a leading dot excludes the name itself."""
    assert proxied(https_proxy=PROXY, no_proxy=no_proxy) is None
    assert proxied(https_proxy=PROXY, NO_PROXY=no_proxy) is None


@pytest.mark.parametrize(
    "no_proxy",
    ["", ",", ".", "gether.ai", "api.together.ai:8443", ".api.together.ai", "together.ai.example", "10.0.0.0/8", "/"],
)  # fmt: skip
def test_names_with_a_proxy(no_proxy):
    """A part of a label, another port and networks do not match a name."""
    assert PROXY == proxied(https_proxy=PROXY, no_proxy=no_proxy)


@pytest.mark.parametrize(
    ("host", "no_proxy", "direct"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3:443", True),
        ("10.1.2.3", "10.1.2.3:80", False),
        ("10.1.2.3", "10.1.2.4", False),
        ("10.1.2.3", "10.1.2", False),
        ("10.1.2.3", "2.3", False),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("10.1.2.3", "10.1.2.3/nonsense", False),
        ("[2001:db8::5]", "2001:db8::/32", True),
        ("[2001:db8::5]", "2001:db8::5", True),
        ("[2001:db8::5]", "[2001:db8::5]", True),
        ("[2001:db8::5]", "[2001:db8::5]:443", True),
        ("[2001:db8::5]", "[2001:db8::5]:80", False),
        ("[::ffff:10.1.2.3]", "10.0.0.0/8", True),
        ("[2001:db9::5]", "2001:db8::/32", False),
    ],
)
def test_addresses_without_a_proxy(host, no_proxy, direct):
    """Addresses match as numbers, and networks by CIDR."""
    assert (proxied(f"https://{host}/v1", https_proxy=PROXY, no_proxy=no_proxy) is None) == direct


def test_the_message_names_the_variable():
    """Two cases and a fallback: without the name an operator would search."""
    for name in ("https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        with pytest.raises(ValueError, match=f"^{name}: must be the URL"):
            proxied(**{name: "ftp://user:password@proxy"})


def test_a_proxy_is_compared_by_value():
    assert parse_proxy("proxy") == Proxy(scheme="http", host="proxy", port=80)
