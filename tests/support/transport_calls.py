"""Asks a `UpstreamClient` for what will fail, and hands back the failure."""

import pytest

from togetherchat_server.domain.reasons import ServiceError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.upstream.client import UpstreamClient

BODY = b'{"model": "m", "messages": ["a secret prompt"]}'


async def failure_of_send(
    transport: UpstreamClient, key: Secret | None, method: str = "POST"
) -> ServiceError:
    body = BODY if method == "POST" else None
    with pytest.raises(ServiceError) as caught:
        await transport.send(method, "x", key=key, request_id="r", body=body)
    return caught.value


async def failure_of_stream(transport: UpstreamClient, key: Secret | None) -> tuple[bytes, ServiceError]:
    """What could be read, and then the failure."""
    read = b""
    try:
        async with transport.stream("x", key=key, request_id="r", body=BODY) as got:
            while piece := await got.read():
                read += piece
    except ServiceError as failure:
        return read, failure
    pytest.fail("the stream did not fail")
