"""The console's paths: off by default, with the same keys as calls, and closed to pages of other sites."""

import base64
import hashlib
import re

import pytest

from support.http_client import TOKEN, running_http
from togetherchat_server.frontends.http.console.page import CONSOLE_PAGE, USAGE_PAGE, assembled_page

PAGES = {"/": CONSOLE_PAGE, "/usage": USAGE_PAGE}
PATHS = (*PAGES, "/console/stats", "/console/models")
KEY = {"authorization": f"Bearer {TOKEN}"}


async def test_the_console_is_off_by_default():
    """Its paths are 404s, and the OpenAPI document does not list them."""
    async with running_http() as http:
        statuses = [(await http.client.get(path)).status_code for path in PATHS]
        described = (await http.client.get("/openapi.json")).json()["paths"]

    assert [404] * 4 == statuses
    assert set() == described.keys() & set(PATHS)


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_may_load_and_run_only_its_own_parts(path):
    """Its style and script by their hashes, no markup from text, and no frame."""
    async with running_http(console=True) as http:
        response = await http.client.get(path)

    policy = dict(rule.split(" ", 1) for rule in response.headers["content-security-policy"].split("; "))
    for kind in ("script", "style"):
        (text,) = re.findall(f"<{kind}>(.*?)</{kind}>", response.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" == policy[f"{kind}-src"]
    assert ("'none'", "'self'", "'none'") == tuple(
        policy[name] for name in ("default-src", "connect-src", "frame-ancestors")
    )
    assert ("'script'", "'none'") == (policy["require-trusted-types-for"], policy["trusted-types"])
    assert ("nosniff", "DENY", "no-store", "no-referrer") == tuple(
        response.headers[name]
        for name in ("x-content-type-options", "x-frame-options", "cache-control", "referrer-policy")
    )


@pytest.mark.parametrize("name", PAGES.values())
def test_a_page_has_no_external_assets_and_no_inline_handlers(name):
    """Its policy would forbid both."""
    page = assembled_page(name).decode()
    assert "<!--include" not in page
    markup = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)

    assert [] == re.findall(r"\s(?:on\w+|style)=", markup)
    assert [] == re.findall(r"(?:src|action)=", markup)
    assert {"icon"} == set(re.findall(r'<link rel="(\w+)"', markup))
    assert [] == re.findall(r"@import|url\(|innerHTML|insertAdjacentHTML|document\.write|eval\(", page)


@pytest.mark.parametrize("path", PATHS)
async def test_a_foreign_host_name_is_rejected(path):
    """A page of another site whose name resolves to this machine sends its own name (DNS rebinding)."""
    async with running_http(console=True) as http:
        port = http.port
        foreign = await http.client.get(path, headers={"host": f"example.com:{port}"})
        local = [
            (await http.client.get(path, headers={"host": host})).status_code
            for host in (f"localhost:{port}", "127.0.0.1", f"[::1]:{port}")
        ]

    assert (403, "foreign_host") == (foreign.status_code, foreign.json()["error"]["code"])
    assert [200, 200, 200] == local


async def test_any_host_name_is_served_with_unauthenticated_access():
    """With --allow-unauthenticated, everyone may call."""
    async with running_http(console=True, allow_unauthenticated=True) as http:
        assert 200 == (await http.client.get("/", headers={"host": "chat.example.com"})).status_code


@pytest.mark.parametrize("path", ["/console/stats", "/console/models"])
@pytest.mark.parametrize(
    ("headers", "expected", "code"),
    [
        ({}, 401, "missing_credentials"),
        ({"authorization": "Basic x"}, 401, "invalid_api_key"),
        (KEY, 200, None),
    ],
)
async def test_the_pages_requests_need_the_same_key_as_a_call(path, headers, expected, code):
    """Errors have the usual shape. The page itself needs no key."""
    async with running_http(console=True, upstream_credentials="caller") as http:
        response = await http.client.get(path, headers=headers)
        page = await http.client.get("/")

    assert expected == response.status_code
    assert code == response.json().get("error", {}).get("code")
    assert 200 == page.status_code


async def test_the_live_metrics_count_calls_but_not_their_own_requests():
    """A request for them leaves no record."""
    async with running_http(console=True, sandbox_tokens_per_second=0) as http:
        before = (await http.client.get("/console/stats")).json()
        await http.complete(model="openai/gpt-oss-120b")
        after = (await http.client.get("/console/stats")).json()
        await http.recorded()
        records = http.records()

    assert (0, {}) == (before["calls"], before["codes"])
    assert (1, {"OK": 1}, "healthy") == (after["calls"], after["codes"], after["provider"]["state"])
    assert (1, 1) == (after["provider"]["ok"], sum(after["seconds"]["calls"]))
    assert after["output_tokens"] > 0
    assert after["cost_usd"] > 0
    assert 1 == len(records)


@pytest.mark.parametrize("workers", [1, 4, "auto"])
async def test_the_live_metrics_have_the_number_of_workers(workers):
    """With several workers they are those of one, and the page says so."""
    async with running_http(console=True, workers=workers) as http:
        stats = (await http.client.get("/console/stats")).json()

    assert workers == stats["workers"]


async def test_the_consoles_models_include_retired_ones():
    """They also have the time at which the provider's list was read."""
    async with running_http(console=True) as http:
        listed = (await http.client.get("/v1/models")).json()["data"]
        shown = (await http.client.get("/console/models")).json()

    states = {model["state"] for model in shown["data"]}
    assert {"active", "unconfirmed", "retired"} == states
    assert len(listed) == sum(model["state"] != "retired" for model in shown["data"])
    assert shown["provider_list_time"] > 0


async def test_a_page_of_another_site_cannot_read_responses():
    """A foreign origin is rejected, and no CORS header lets a browser read a response."""
    async with running_http(console=True) as http:
        asked = await http.client.get("/console/models", headers={"origin": "https://example.com"})
        stats = await http.client.get("/console/stats")

    assert 403 == asked.status_code
    assert "access-control-allow-origin" not in stats.headers
    assert "same-origin" == stats.headers["cross-origin-resource-policy"]


async def test_only_get_and_head_are_allowed():
    """HEAD returns the length of the page."""
    async with running_http(console=True) as http:
        posted = [(await http.client.post(path)).status_code for path in PATHS]
        head = await http.client.head("/")

    assert [405] * 4 == posted
    assert (200, str(len(assembled_page(CONSOLE_PAGE))), b"") == (
        head.status_code,
        head.headers["content-length"],
        head.content,
    )
