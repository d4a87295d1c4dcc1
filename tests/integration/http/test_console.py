"""The console's paths: off unless asked for, behind the same keys, and shown to nobody else's page."""

import base64
import hashlib
import re

import pytest

from support.http_client import TOKEN, running_door
from togetherchat_server.frontends.http.console.page import PAGE

PATHS = ("/", "/console/figures", "/console/models")
KEY = {"authorization": f"Bearer {TOKEN}"}


async def test_without_a_word_there_is_no_console():
    """The door's other paths are as they are; the description does not name it either."""
    async with running_door() as door:
        statuses = [(await door.client.get(path)).status_code for path in PATHS]
        described = (await door.client.get("/openapi.json")).json()["paths"]

    assert [404, 404, 404] == statuses
    assert set() == described.keys() & set(PATHS)


async def test_the_page_may_load_and_run_nothing_but_itself():
    """Its style and its script by their hashes, and no markup made of text; no frame shows it."""
    async with running_door(console=True) as door:
        response = await door.client.get("/")

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


def test_the_page_has_no_asset_and_no_handler_in_its_markup():
    """Nothing is fetched from elsewhere, and its policy would forbid both."""
    page = PAGE.read_text(encoding="utf-8")
    markup = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)

    assert [] == re.findall(r"\s(?:on\w+|style)=", markup)
    assert [] == re.findall(r"(?:src|action)=", markup)
    assert {"icon"} == set(re.findall(r'<link rel="(\w+)"', markup))
    assert [] == re.findall(r"@import|url\(|innerHTML|insertAdjacentHTML|document\.write|eval\(", page)


@pytest.mark.parametrize("path", PATHS)
async def test_a_name_that_leads_here_from_elsewhere_is_refused(path):
    """A page may have its own name lead to this machine: then it asks under that name."""
    async with running_door(console=True) as door:
        port = door.place[1]
        foreign = await door.client.get(path, headers={"host": f"example.com:{port}"})
        local = [
            (await door.client.get(path, headers={"host": host})).status_code
            for host in (f"localhost:{port}", "127.0.0.1", f"[::1]:{port}")
        ]

    assert (403, "foreign_host") == (foreign.status_code, foreign.json()["error"]["code"])
    assert [200, 200, 200] == local


async def test_beyond_this_machine_any_name_is_served():
    """Where it was said that strangers may come, and pay."""
    async with running_door(console=True, allow_unauthenticated=True) as door:
        assert 200 == (await door.client.get("/", headers={"host": "chat.example.com"})).status_code


@pytest.mark.parametrize("path", ["/console/figures", "/console/models"])
@pytest.mark.parametrize(
    ("headers", "expected", "code"),
    [
        ({}, 401, "missing_credentials"),
        ({"authorization": "Basic x"}, 401, "invalid_api_key"),
        (KEY, 200, None),
    ],
)
async def test_what_the_page_asks_for_needs_the_same_key_as_a_call(path, headers, expected, code):
    """In the words of the door; the page itself holds nothing that needs one."""
    async with running_door(console=True, upstream_credentials="caller") as door:
        response = await door.client.get(path, headers=headers)
        page = await door.client.get("/")

    assert expected == response.status_code
    assert code == response.json().get("error", {}).get("code")
    assert 200 == page.status_code


async def test_figures_are_of_the_calls_so_far_and_no_calls_themselves():
    """They leave no record; a call over either front is counted."""
    async with running_door(console=True, sandbox_tokens_per_second=0) as door:
        before = (await door.client.get("/console/figures")).json()
        await door.complete(model="openai/gpt-oss-120b")
        after = (await door.client.get("/console/figures")).json()
        await door.recorded()
        records = door.records()

    assert (0, {}) == (before["calls"], before["codes"])
    assert (1, {"OK": 1}, "well") == (after["calls"], after["codes"], after["upstream"]["state"])
    assert after["tokens"] > 0
    assert after["cost_usd"] > 0
    assert 1 == len(records)


@pytest.mark.parametrize("workers", [1, 4, "auto"])
async def test_figures_say_whether_there_are_others(workers):
    """With workers they are one worker's, and the page has to say so."""
    async with running_door(console=True, workers=workers) as door:
        figures = (await door.client.get("/console/figures")).json()

    assert workers == figures["workers"]


async def test_the_consoles_models_have_the_retired_too():
    """And when the provider's list was read."""
    async with running_door(console=True) as door:
        listed = (await door.client.get("/v1/models")).json()["data"]
        shown = (await door.client.get("/console/models")).json()

    states = {model["state"] for model in shown["data"]}
    assert {"active", "unconfirmed", "retired"} == states
    assert len(listed) == sum(model["state"] != "retired" for model in shown["data"])
    assert shown["provider_list_time"] > 0


async def test_a_page_of_another_site_learns_nothing():
    """Its origin is told apart; and without a word on it, browsers hand it no answer."""
    async with running_door(console=True) as door:
        asked = await door.client.get("/console/models", headers={"origin": "https://example.com"})
        figures = await door.client.get("/console/figures")

    assert 403 == asked.status_code
    assert "access-control-allow-origin" not in figures.headers
    assert "same-origin" == figures.headers["cross-origin-resource-policy"]


async def test_only_get_and_head():
    """And HEAD says how long the page is."""
    async with running_door(console=True) as door:
        posted = [(await door.client.post(path)).status_code for path in PATHS]
        head = await door.client.head("/")

    assert [405, 405, 405] == posted
    assert (200, str(PAGE.stat().st_size), b"") == (
        head.status_code,
        head.headers["content-length"],
        head.content,
    )
