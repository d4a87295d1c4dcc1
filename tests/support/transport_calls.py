"""Sends requests that fail with an `UpstreamClient`, and returns the failure."""

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from togetherchat_server.domain.reasons import ServiceError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.upstream.client import UpstreamClient, UpstreamStream

BODY = b'{"model": "m", "messages": ["a secret prompt"]}'


async def failure_of_send(client: UpstreamClient, key: Secret | None, method: str = "POST") -> ServiceError:
    body = BODY if method == "POST" else None
    with pytest.raises(ServiceError) as caught:
        await client.send(method, "x", key=key, request_id="r", body=body)
    return caught.value


@asynccontextmanager
async def streaming(
    client: UpstreamClient, key: Secret | None, **fields: Any
) -> AsyncGenerator[UpstreamStream]:
    """Opens a stream, and closes it when the context is left."""
    request = {"request_id": "r", "body": BODY, **fields}
    async with aclosing(await client.open_stream("x", key=key, **request)) as stream:
        yield stream


async def failure_of_stream(client: UpstreamClient, key: Secret | None) -> tuple[bytes, ServiceError]:
    """Returns the bytes read before the failure, and the failure."""
    read = b""
    try:
        async with streaming(client, key) as got:
            while data := await got.read():
                read += data
    except ServiceError as failure:
        return read, failure
    pytest.fail("the stream did not fail")
