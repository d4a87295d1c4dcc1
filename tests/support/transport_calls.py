"""Sends requests that fail with an `UpstreamClient`, and returns the failure."""

import pytest

from togetherchat_server.domain.reasons import ServiceError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.upstream.client import UpstreamClient

BODY = b'{"model": "m", "messages": ["a secret prompt"]}'


async def failure_of_send(client: UpstreamClient, key: Secret | None, method: str = "POST") -> ServiceError:
    body = BODY if method == "POST" else None
    with pytest.raises(ServiceError) as caught:
        await client.send(method, "x", key=key, request_id="r", body=body)
    return caught.value


async def failure_of_stream(client: UpstreamClient, key: Secret | None) -> tuple[bytes, ServiceError]:
    """Returns the bytes read before the failure, and the failure."""
    read = b""
    try:
        async with client.stream("x", key=key, request_id="r", body=BODY) as got:
            while data := await got.read():
                read += data
    except ServiceError as failure:
        return read, failure
    pytest.fail("the stream did not fail")
