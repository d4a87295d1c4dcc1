"""Pages of other origins: the preflight, readable responses, and what is never allowed."""

import json

import pytest

from support import openai
from support.http_client import COMPLETIONS, TOKEN, events_of, raw_caller, request_body, running_http
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Fin, Send, json_response, sse, sse_event, sse_head

APPS = ("app://obsidian.md", "tauri://localhost", "chrome-extension://mkfp", "http://localhost:5173")
SITE = "https://chat.example.com"
ALLOWED = ",".join((*APPS, SITE))
FOREIGN = "https://elsewhere.example"
STREAM = sse([openai.chunk("Hi", finish_reason="stop"), openai.DONE])
BROKEN = (Send(sse_head() + sse_event(openai.chunk("Hi"))), Fin())


def preflight(origin, *, method="POST", headers="authorization,content-type,x-stainless-os"):
    """The headers of a browser that asks whether a page may send a request."""
    return {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": headers,
    }


def cors(response):
    """The response's headers about other origins."""
    return {name for name in response.headers if name.startswith("access-control-")}


@pytest.mark.parametrize(
    "path", [COMPLETIONS, "/chat/completions", "/v1/models", "/v1/models/a/b", "/v1/nothing"]
)
@pytest.mark.parametrize("origin", [*APPS, SITE])
async def test_an_allowed_origin_may_ask_and_send(origin, path):
    """A preflight has no body, needs no key and is not a call; the answer may be kept."""
    async with running_http(http_allowed_origins=ALLOWED, upstream_credentials="caller") as service:
        response = await service.client.options(path, headers=preflight(origin))

    assert (204, b"") == (response.status_code, response.content)
    assert "content-length" not in response.headers
    assert origin == response.headers["access-control-allow-origin"]
    assert "Origin" == response.headers["vary"]
    assert "GET, HEAD, POST" == response.headers["access-control-allow-methods"]
    assert "authorization,content-type,x-stainless-os" == response.headers["access-control-allow-headers"]
    assert "7200" == response.headers["access-control-max-age"]
    assert "access-control-allow-credentials" not in response.headers
    assert [] == service.records()


async def test_any_page_may_ask_and_send():
    """`*` is for everyone, and never with credentials."""
    async with running_http(http_allowed_origins="*", sandbox_tokens_per_second=0) as service:
        asked = await service.client.options(COMPLETIONS, headers=preflight("null"))
        sent = await service.client.post(COMPLETIONS, json=request_body(), headers={"origin": FOREIGN})
        without = await service.client.post(COMPLETIONS, json=request_body())

    assert (204, 200, 200) == (asked.status_code, sent.status_code, without.status_code)
    for response in (asked, sent, without):
        assert "*" == response.headers["access-control-allow-origin"]
        assert "access-control-allow-credentials" not in response.headers


RESPONSES = [
    (json_response(200, openai.completion()), {}, 200),
    (STREAM, {"stream": True}, 200),
    (BROKEN, {"stream": True}, 200),
    (json_response(429, openai.error("No.")), {}, 429),
    (json_response(200, openai.completion()), {"temperature": 3}, 400),
]


@pytest.mark.parametrize(("answer", "members", "status"), RESPONSES)
async def test_a_page_reads_responses_streams_and_errors(answer, members, status):
    """Every header is exposed; a cache keeps the responses of origins apart."""
    async with (
        ScriptedUpstream(always(answer)) as upstream,
        running_http(upstream.base_url, http_allowed_origins=ALLOWED) as service,
    ):
        service.client.headers["origin"] = SITE
        call = service.stream if members.get("stream") else service.complete
        response = await call(**members)

    if members.get("stream"):
        response, ended = response
        assert ended == (answer is not BROKEN)
    assert status == response.status_code
    assert (SITE, "*", "Origin") == tuple(
        response.headers[name]
        for name in ("access-control-allow-origin", "access-control-expose-headers", "vary")
    )
    if members.get("stream"):
        assert "Hi" == events_of(response.text)[0]["choices"][0]["delta"]["content"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/v1/models", {}, 401),
        ("POST", COMPLETIONS, {"content-type": "text/plain"}, 415),
        ("DELETE", COMPLETIONS, {}, 405),
        ("POST", "/v1/nothing", {}, 404),
        ("GET", "/openapi.json", {}, 200),
    ],
)
async def test_a_page_reads_the_errors_of_requests_that_are_not_calls(method, path, headers, status):
    """Otherwise the browser reports a failure of CORS, and hides the error."""
    async with running_http(http_allowed_origins=ALLOWED, upstream_credentials="caller") as service:
        response = await service.client.request(
            method, path, content=b"{}" if method == "POST" else None, headers={"origin": SITE, **headers}
        )

    assert (status, SITE) == (response.status_code, response.headers["access-control-allow-origin"])


@pytest.mark.parametrize("allowed", ["off", ALLOWED])
@pytest.mark.parametrize(
    "origin", [FOREIGN, "null", f"{SITE}:444", "http://chat.example.com", f"{SITE}.elsewhere.example", "http://localhost:5174"]
)  # fmt: skip
async def test_another_origin_can_neither_ask_nor_send(origin, allowed):
    """Nothing is allowed by default, and a part of an allowed origin is not one."""
    async with running_http(http_allowed_origins=allowed) as service:
        asked = await service.client.options(COMPLETIONS, headers=preflight(origin))
        sent = await service.client.post(COMPLETIONS, json=request_body(), headers={"origin": origin})
        listed = await service.client.get("/v1/models", headers={"origin": origin})

    assert (405, 403, 403) == (asked.status_code, sent.status_code, listed.status_code)
    assert "foreign_origin" == sent.json()["error"]["code"]
    assert set() == cors(asked) | cors(sent) | cors(listed)
    assert (allowed != "off") == ("vary" in sent.headers)


async def test_an_allowed_page_must_send_json():
    """Text can be sent without a preflight: by pages of every origin, to make the service work."""
    async with running_http(http_allowed_origins=ALLOWED) as service:
        response = await service.client.post(
            COMPLETIONS,
            content=json.dumps(request_body()),
            headers={"origin": SITE, "content-type": "text/plain"},
        )

    assert 415 == response.status_code


@pytest.mark.parametrize("path", ["/", "/usage", "/console/stats", "/console/models"])
async def test_the_console_is_not_readable_for_other_origins(path):
    """Its live metrics are those of all tenants."""
    async with running_http(console=True, http_allowed_origins="*") as service:
        response = await service.client.get(path, headers={"origin": SITE})
        asked = await service.client.options(path, headers=preflight(SITE, method="GET"))

    assert (200, 405) == (response.status_code, asked.status_code)
    assert set() == cors(response) | cors(asked)


@pytest.mark.parametrize("names", ["x" * 5000, "a\u00fc", "a{b}"])
async def test_names_of_headers_that_are_none_are_not_repeated(names):
    """The answer is still an answer; the browser then rejects the request of the page."""
    async with running_http(http_allowed_origins=ALLOWED) as service, raw_caller(service.address) as caller:
        lines = (
            f"OPTIONS {COMPLETIONS} HTTP/1.1", "host: localhost", f"origin: {SITE}",
            "access-control-request-method: POST", f"access-control-request-headers: {names}", "connection: close",
        )  # fmt: skip
        await caller.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        answer = await caller.read_to_end()

    assert answer.startswith(b"HTTP/1.1 204 ")
    assert b"access-control-allow-headers" not in answer
    assert answer.endswith(b"\r\n\r\n")


OWN_SITE = [
    # origin, host, x-forwarded-host, trusted proxies, service's key is open to all, status
    (SITE, "chat.example.com", None, "off", True, 200),
    (SITE, "chat.example.com:443", None, "off", True, 200),
    ("http://chat.example.com:80", "chat.example.com", None, "off", True, 200),
    (SITE, "chat.example.com:80", None, "off", True, 403),
    (SITE, "127.0.0.1:3000", "chat.example.com", "127.0.0.1", True, 200),
    (SITE, "127.0.0.1:3000", "chat.example.com:443, inner.example", "127.0.0.1", True, 200),
    (SITE, "127.0.0.1:3000", "chat.example.com", "off", True, 403),
    (SITE, "127.0.0.1:3000", "chat.example.com", "192.0.2.1", True, 403),
    (SITE, "127.0.0.1:3000", "other.example", "127.0.0.1", True, 403),
    (SITE, "127.0.0.1:3000", "chat.example.com", "127.0.0.1", False, 403),
    (SITE, "chat.example.com", None, "off", False, 403),
    ("http://localhost:3000", "localhost:3000", None, "off", False, 200),
    ("app://localhost:3000", "localhost:3000", None, "off", False, 403),
]


@pytest.mark.parametrize(("origin", "host", "forwarded", "proxies", "open_to_all", "status"), OWN_SITE)
async def test_a_page_of_the_services_own_site_is_served(
    origin, host, forwarded, proxies, open_to_all, status
):
    """A proxy that rewrites `Host` must be trusted. On a loopback address, the name must be a loopback one.

    A page whose name resolves to this machine (DNS rebinding) could send `x-forwarded-host` itself.
    """
    headers = {"host": host, "origin": origin} | ({"x-forwarded-host": forwarded} if forwarded else {})
    settings = {"trusted_proxies": proxies, "allow_unauthenticated": open_to_all}
    async with running_http(sandbox_tokens_per_second=0, **settings) as service:
        response = await service.client.post(COMPLETIONS, json=request_body(), headers=headers)

    assert status == response.status_code, response.text


async def test_an_allowed_origin_is_served_where_others_must_be_local():
    """The operator named it: a proxy on this machine may forward the requests of its pages."""
    headers = {"host": "rebound.example:3000", "authorization": f"Bearer {TOKEN}"}
    async with running_http(http_allowed_origins=SITE, sandbox_tokens_per_second=0) as service:
        allowed = await service.client.post(
            COMPLETIONS, json=request_body(), headers={**headers, "origin": SITE}
        )
        rebound = await service.client.post(
            COMPLETIONS, json=request_body(), headers={**headers, "origin": "http://rebound.example:3000"}
        )

    assert (200, 403) == (allowed.status_code, rebound.status_code)
