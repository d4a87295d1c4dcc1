import asyncio
import json
import socket
from contextlib import asynccontextmanager, suppress

import pytest

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


async def sent(address, data):
    """Everything that comes back for these bytes, until the server closes."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    answer = b""
    with suppress(ConnectionError):
        async with asyncio.timeout(20):
            while part := await reader.read(65536):
                answer += part
    writer.close()
    return answer


def split(answer):
    """The status, the headers and the body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split(" ")[1]), dict(line.split(": ", 1) for line in lines), body


async def asked(path, *, method="GET", **serving_with):
    async with serving(**serving_with) as address:
        return split(await sent(address, f"{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()))


async def test_healthz_says_that_the_loop_turns():
    """Alive is alive, ready or not."""
    assert (200, b"ok\n") == (await asked("/healthz", ready=lambda: False))[::2]


@pytest.mark.parametrize(("ready", "answer"), [(True, (200, b"ok\n")), (False, (503, b"not ready\n"))])
async def test_readyz_says_whether_calls_are_wanted(ready, answer):
    """Asked anew each time."""
    assert answer == (await asked("/readyz", ready=lambda: ready))[::2]


async def test_version_names_the_service():
    """JSON, for machines."""
    status, headers, body = await asked("/version")

    assert (200, "application/json") == (status, headers["content-type"])
    assert {"name": "togetherchat", "version": "1.2.3"} == json.loads(body)


async def test_a_query_does_not_change_the_page():
    """Some probes add one against caches."""
    assert 200 == (await asked("/healthz?x=1"))[0]


async def test_an_unknown_path_names_those_there_are():
    """404 helps whoever guessed wrong."""
    status, _, body = await asked("/metricz")

    assert 404 == status
    assert b"/healthz, /readyz, /version" in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "CONNECT", "get"])
async def test_other_methods_are_not_allowed(method):
    """Nothing can be changed here."""
    assert 405 == (await asked("/healthz", method=method))[0]


async def test_head_is_get_without_the_body():
    """The length is that of the body which is not sent."""
    status, headers, body = await asked("/healthz", method="HEAD")

    assert (200, "3", b"") == (status, headers["content-length"], body)


async def test_every_answer_ends_its_connection_and_is_kept_by_no_cache():
    """One request a connection; an old readiness is a wrong one."""
    _, headers, body = await asked("/readyz")

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
async def test_what_is_no_request_is_answered_or_dropped(data):
    """Never an error page of the server's own, and the next request works."""
    async with serving() as address:
        answer = await sent(address, data)
        after = await sent(address, b"GET /healthz HTTP/1.1\r\n\r\n")

    assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 405 "))
    assert 200 == split(after)[0]


async def test_a_request_that_is_too_large_is_dropped():
    """8 KiB is plenty for a probe."""
    async with serving() as address:
        answer = await sent(address, b"GET /healthz HTTP/1.1\r\nx: " + b"x" * 100_000)
        after = await sent(address, b"GET /healthz HTTP/1.1\r\n\r\n")

    assert b"" == answer
    assert 200 == split(after)[0]


async def test_a_request_that_does_not_come_is_dropped(monkeypatch):
    """Whoever connects and says nothing, or half of it, is let go after a while."""
    monkeypatch.setattr(module, "REQUEST_S", 0.05)
    async with serving() as address:
        assert b"" == await sent(address, b"")
        assert b"" == await sent(address, b"GET /healthz HT")


async def test_a_slow_peer_holds_up_neither_others_nor_the_end():
    """A request that is half there waits alone, and is cut off when the port closes."""
    async with serving() as address:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /hea")
        after = await sent(address, b"GET /healthz HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(2):
        with suppress(ConnectionError):
            assert b"" == await reader.read()
    writer.close()

    assert 200 == split(after)[0]


async def test_an_address_that_is_taken_is_an_os_error():
    """The start says so rather than serve without its admin port."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await Admin({}).start(f"127.0.0.1:{taken.getsockname()[1]}")


async def test_ipv6_addresses_keep_their_brackets():
    """`[::1]:0` is bound and named as it was written."""
    admin = Admin(pages(ready=lambda: True, version=""))
    try:
        address = await admin.start("[::1]:0")
    except OSError:
        pytest.skip("no IPv6 here")
    await admin.close()

    assert address.startswith("[::1]:")


async def figures(accept):
    return "text/plain; of=" + accept, b"metric 1\n" * 500_000 if accept == "much" else b"metric 1\n"


@asynccontextmanager
async def scraped():
    admin = Admin(pages(ready=lambda: True, version="1.2.3"), figures)
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
async def test_figures_are_given_as_the_scraper_accepts_them(headers, accept):
    """The header decides about the format, however it is written."""
    async with scraped() as address:
        answer = await sent(address, f"GET /metrics HTTP/1.1\r\n{headers}\r\n".encode())

    assert (200, f"text/plain; of={accept}", b"metric 1\n") == (
        split(answer)[0],
        split(answer)[1]["content-type"],
        split(answer)[2],
    )


async def test_head_of_the_figures_has_no_body():
    """As of every page; and nothing can be sent there."""
    async with scraped() as address:
        head = await sent(address, b"HEAD /metrics HTTP/1.1\r\n\r\n")
        post = await sent(address, b"POST /metrics HTTP/1.1\r\n\r\n")

    assert (200, "9", b"") == (split(head)[0], split(head)[1]["content-length"], split(head)[2])
    assert 405 == split(post)[0]


async def test_a_process_without_figures_does_not_name_them():
    """404, and not in the list of what there is."""
    status, _, body = await asked("/metrics")

    assert 404 == status
    assert b"/metrics" not in body


async def test_a_scraper_that_reads_nothing_is_cut_off(monkeypatch):
    """What it did not take is not kept for it, and others are served meanwhile."""
    monkeypatch.setattr(module, "REQUEST_S", 0.5)
    async with scraped() as address:
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port))) as slow:
            slow.send(b"GET /metrics HTTP/1.1\r\naccept: much\r\n\r\n")
            other = await sent(address, b"GET /metrics HTTP/1.1\r\n\r\n")
            slow.setblocking(False)
            received = await to_the_end(slow)

    assert 200 == split(other)[0]
    assert received < 4_500_000


async def to_the_end(slow):
    """How many bytes come, to the end or the reset, once the server has given up."""
    received = 0
    await asyncio.sleep(2 * module.REQUEST_S)
    with suppress(ConnectionError):
        while part := await asyncio.get_running_loop().sock_recv(slow, 65536):
            received += len(part)
    return received
