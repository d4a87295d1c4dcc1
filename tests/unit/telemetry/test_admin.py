import asyncio
import json
import select
import socket
from contextlib import asynccontextmanager, suppress

import pytest

from support.audit import audited
from togetherchat_server.telemetry import admin as module
from togetherchat_server.telemetry.admin import Admin, pages


@asynccontextmanager
async def serving(*, ready=lambda: True):
    admin = Admin(pages(ready=ready, version="1.2.3"))
    address = await admin.start("127.0.0.1:0")
    try:
        yield address
    finally:
        await admin.close()


async def send(address, data):
    """Send bytes; return everything received until the server closes."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    received = b""
    with suppress(ConnectionError):
        async with asyncio.timeout(20):
            while part := await reader.read(65536):
                received += part
    writer.close()
    return received


def parse(response):
    """Return the status, the headers and the body."""
    head, _, body = response.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split(" ")[1]), dict(line.split(": ", 1) for line in lines), body


async def get(path, *, method="GET", **serving_with):
    async with serving(**serving_with) as address:
        return parse(await send(address, f"{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()))


async def test_healthz_is_ok_while_the_loop_runs():
    """Whether the service is ready does not matter."""
    assert (200, b"ok\n") == (await get("/healthz", ready=lambda: False))[::2]


@pytest.mark.parametrize(("ready", "expected"), [(True, (200, b"ok\n")), (False, (503, b"not ready\n"))])
async def test_readyz_says_whether_calls_are_accepted(ready, expected):
    """503 while they are not."""
    assert expected == (await get("/readyz", ready=lambda: ready))[::2]


async def test_version_names_the_service():
    """The response is JSON."""
    status, headers, body = await get("/version")

    assert (200, "application/json") == (status, headers["content-type"])
    assert {"name": "togetherchat", "version": "1.2.3"} == json.loads(body)


async def test_a_query_does_not_change_the_page():
    """Some probes add one to avoid caches."""
    assert 200 == (await get("/healthz?x=1"))[0]


async def test_an_unknown_path_is_not_found():
    """The 404 lists the existing paths."""
    status, _, body = await get("/metricz")

    assert 404 == status
    assert b"/healthz, /readyz, /version" in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "CONNECT", "get"])
async def test_methods_other_than_get_and_head_are_not_allowed(method):
    """Nothing can be changed on this port."""
    assert 405 == (await get("/healthz", method=method))[0]


async def test_head_is_get_without_the_body():
    """The length is that of the body that is not sent."""
    status, headers, body = await get("/healthz", method="HEAD")

    assert (200, "3", b"") == (status, headers["content-length"], body)


async def test_every_response_closes_its_connection_and_is_not_cached():
    """One request per connection; a cached readiness would be wrong."""
    _, headers, body = await get("/readyz")

    assert ("close", "no-store", str(len(body))) == (
        headers["connection"],
        headers["cache-control"],
        headers["content-length"],
    )


@pytest.mark.parametrize(
    "data",
    [b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET /caf\xe9 HTTP/1.1\r\n\r\n"],
    ids=["empty", "no path", "a TLS hello", "latin"],
)
async def test_a_malformed_request_is_rejected(data):
    """With a 4xx of the admin port, and the next request works."""
    async with serving() as address:
        response = await send(address, data)
        after = await send(address, b"GET /healthz HTTP/1.1\r\n\r\n")

    assert response.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 405 "))
    assert 200 == parse(after)[0]


async def test_a_request_over_8_kib_is_dropped():
    """The connection is closed, and the next request works."""
    async with serving() as address:
        response = await send(address, b"GET /healthz HTTP/1.1\r\nx: " + b"x" * 100_000)
        after = await send(address, b"GET /healthz HTTP/1.1\r\n\r\n")

    assert b"" == response
    assert 200 == parse(after)[0]


async def test_a_client_that_sends_no_whole_request_is_disconnected(monkeypatch):
    """After a timeout, whether it sent nothing or half a request."""
    monkeypatch.setattr(module, "REQUEST_TIMEOUT_S", 0.05)
    async with serving() as address:
        assert b"" == await send(address, b"")
        assert b"" == await send(address, b"GET /healthz HT")


async def test_a_slow_client_delays_neither_others_nor_the_close():
    """Its connection is aborted when the port closes."""
    async with serving() as address:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /hea")
        after = await send(address, b"GET /healthz HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(2):
        with suppress(ConnectionError):
            assert b"" == await reader.read()
    writer.close()

    assert 200 == parse(after)[0]


async def test_an_address_in_use_is_an_os_error():
    """The start fails rather than serve without its admin port."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await Admin({}).start(f"127.0.0.1:{taken.getsockname()[1]}")


async def test_ipv6_addresses_keep_their_brackets():
    """`[::1]:0` is bound, and returned in the same form."""
    admin = Admin(pages(ready=lambda: True, version=""))
    try:
        address = await admin.start("[::1]:0")
    except OSError:
        pytest.skip("no IPv6 here")
    await admin.close()

    assert address.startswith("[::1]:")


async def scrape(accept):
    return "text/plain; of=" + accept, b"metric 1\n" * 500_000 if accept == "much" else b"metric 1\n"


@asynccontextmanager
async def serving_metrics():
    admin = Admin(pages(ready=lambda: True, version="1.2.3"), scrape)
    try:
        yield await admin.start("127.0.0.1:0")
    finally:
        await admin.close()


@pytest.mark.parametrize(
    ("headers", "accept"),
    [
        ("", ""),
        ("Accept: a/b\r\n", "a/b"),
        ("host: x\r\nACCEPT:  a/b;q=0.5 \r\naccept: c\r\n", "a/b;q=0.5, c"),
    ],
)
async def test_the_accept_header_reaches_the_exposition(headers, accept):
    """In any case of letters, and from all of its lines."""
    async with serving_metrics() as address:
        response = await send(address, f"GET /metrics HTTP/1.1\r\n{headers}\r\n".encode())

    assert (200, f"text/plain; of={accept}", b"metric 1\n") == (
        parse(response)[0],
        parse(response)[1]["content-type"],
        parse(response)[2],
    )


async def test_metrics_support_head_but_not_post():
    """As every page does."""
    async with serving_metrics() as address:
        head = await send(address, b"HEAD /metrics HTTP/1.1\r\n\r\n")
        post = await send(address, b"POST /metrics HTTP/1.1\r\n\r\n")

    assert (200, "9", b"") == (parse(head)[0], parse(head)[1]["content-length"], parse(head)[2])
    assert 405 == parse(post)[0]


async def test_a_process_without_metrics_has_no_metrics_path():
    """The path is a 404, and not in the list of paths."""
    status, _, body = await get("/metrics")

    assert 404 == status
    assert b"/metrics" not in body


async def test_a_scraper_that_does_not_read_is_disconnected(monkeypatch):
    """The rest of the page is dropped, and other clients are served meanwhile."""
    monkeypatch.setattr(module, "REQUEST_TIMEOUT_S", 0.5)
    async with serving_metrics() as address:
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port))) as slow:
            slow.send(b"GET /metrics HTTP/1.1\r\naccept: much\r\n\r\n")
            other = await send(address, b"GET /metrics HTTP/1.1\r\n\r\n")
            slow.setblocking(False)
            received = await receive_rest(slow)

    assert 200 == parse(other)[0]
    assert received < 4_500_000


async def receive_rest(slow):
    """Return how many bytes arrive after the server's timeout, to the end or a reset."""
    received = 0
    await asyncio.sleep(2 * module.REQUEST_TIMEOUT_S)
    with suppress(ConnectionError):
        while part := await asyncio.get_running_loop().sock_recv(slow, 65536):
            received += len(part)
    return received


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9464", 200),
        ("10.1.2.3", 200),
        ("[::1]:9464", 200),
        ("localhost", 200),
        ("LOCALHOST.:80", 200),
        ("togetherchat", 200),
        ("togetherchat.default.svc", 200),
        ("pod.ns.svc.cluster.local:9464", 200),
        ("metrics.example.com", 200),
        ("METRICS.example.com:443", 200),
        ("attacker.example", 421),
        ("127.0.0.1.attacker.example:9464", 421),
        ("localhost.attacker.example", 421),
    ],
)
async def test_only_names_that_no_public_site_can_have_are_served(host, status):
    """A page whose site's name was made to resolve to this address cannot read the metrics."""
    admin = Admin(pages(ready=lambda: True, version="1"), hosts=("metrics.example.com",))
    address = await admin.start("127.0.0.1:0")
    try:
        assert status == await status_of(address, f"GET /healthz HTTP/1.1\r\nhost: {host}\r\n\r\n")
    finally:
        await admin.close()


@pytest.mark.parametrize(
    ("headers", "status"), [("", 200), ("host: a\r\nhost: b\r\n", 400), ("host: a\r\nHOST: a\r\n", 400)]
)
async def test_a_request_has_at_most_one_host(headers, status):
    """A probe of HTTP/1.0 has none."""
    admin = Admin(pages(ready=lambda: True, version="1"))
    address = await admin.start("127.0.0.1:0")
    try:
        assert status == await status_of(address, f"GET /healthz HTTP/1.0\r\n{headers}\r\n")
    finally:
        await admin.close()


async def test_the_oldest_connection_is_closed_for_a_new_one(monkeypatch):
    """A flood of connections that send nothing does not keep probes out."""
    monkeypatch.setattr(module, "CONNECTIONS_MAX", 2)
    admin = Admin(pages(ready=lambda: True, version="1"))
    address = await admin.start("127.0.0.1:0")
    host, _, port = address.rpartition(":")
    silent = [await asyncio.open_connection(host, int(port)) for _ in range(2)]
    try:
        assert 200 == await status_of(address, "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        with suppress(ConnectionResetError):
            assert b"" == await silent[0][0].read()
    finally:
        for _, writer in silent:
            writer.close()
            with suppress(ConnectionResetError):
                await writer.wait_closed()
        await admin.close()


async def status_of(address, request):
    """Return the status of the response to these bytes."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request.encode())
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return int(line.split()[1])


@pytest.mark.parametrize(
    ("request_line", "path", "status"),
    [
        ("GET /metrics?canary", "/metrics", 200),
        ("HEAD /version", "/version", 200),
        ("GET /canary", "other", 404),
        ("POST /metrics", "/metrics", 405),
        ("canary /canary", "other", 405),
    ],
)
async def test_an_access_is_an_event_without_the_text_of_a_stranger(request_line, path, status):
    """With the address of the peer, and only paths that exist."""
    with audited() as audit:
        async with serving_metrics() as address:
            await send(address, f"{request_line} HTTP/1.1\r\nhost: x\r\n\r\n".encode())

    assert [
        {"event": "admin_access", "client_address": "127.0.0.1", "path": path, "http_status": status}
    ] == audit.events()


async def test_a_probe_is_not_an_event():
    """Neither of liveness nor of readiness."""
    with audited() as audit:
        async with serving(ready=lambda: False) as address:
            for path in ("/healthz", "/readyz"):
                await send(address, f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())

    assert [] == audit.lines


async def test_a_probe_is_not_lost_among_waiting_connections():
    """A connection beyond the backlog would be repeated by its kernel after a second, and its probe be late."""
    async with serving() as address:
        host, _, port = address.rpartition(":")
        waiting = [socket.socket() for _ in range(500)]  # the loop does not run until they are closed
        for client in waiting:
            client.setblocking(False)
            client.connect_ex((host, int(port)))
        _, connected, _ = select.select([], waiting, [], 0)
        for client in waiting:
            client.close()

    assert len(waiting) == len(connected)
