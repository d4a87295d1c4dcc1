"""The provider's headers for debugging, on request."""

import pytest

from support.app import collect, failing, request, running_app
from support.http_client import running_http
from togetherchat_server.providers.together.debug_headers import NAMES

DEBUG = ("x-together-debug", "1")


async def test_a_grpc_caller_gets_them_in_its_trailers():
    """Unary and streamed, and with a failure; not without the request for them."""
    async with running_app() as app:
        plain = app.chat.Complete(request())
        await plain
        unary = app.chat.Complete(request(), metadata=[DEBUG])
        await unary
        stream = app.chat.StreamComplete(request(), metadata=[DEBUG])
        await collect(stream)
        failure = await failing(app.chat.Complete(request(model="sandbox/error-400"), metadata=[DEBUG]))
        trailers = [dict(await call.trailing_metadata()) for call in (plain, unary, stream)]

    assert set(NAMES).isdisjoint(trailers[0])
    for found in (*trailers[1:], failure.trailers):
        assert set(NAMES) <= set(found)
    assert "sandbox-0" == failure.trailers["x-engine-pod"]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_http_caller_gets_them_in_its_headers(stream):
    """Only the value 1 requests them."""
    async with running_http() as service:
        plain = await service.complete(stream=stream)
        service.client.headers["x-together-debug"] = "yes"
        other = await service.complete(stream=stream)
        service.client.headers["x-together-debug"] = "1"
        debug = await service.complete(stream=stream)

    assert set(NAMES).isdisjoint(plain.headers)
    assert set(NAMES).isdisjoint(other.headers)
    assert set(NAMES) <= set(debug.headers)
