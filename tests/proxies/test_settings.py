"""What the settings of both proxies in docs/proxies.md are for: the behavior without them."""

import asyncio

import pytest

from proxies.http_calls import post, streaming
from proxies.provider import COMPLETION, released_one_by_one
from proxies.reverse import chain, without
from support.app import failing, request
from support.scripted_upstream import always
from support.upstream_script import Pause

FORWARDED = {
    "nginx": [
        "grpc_set_header X-Forwarded-For $remote_addr;",
        "proxy_set_header X-Forwarded-For $remote_addr;",
    ],
    "haproxy": ["http-request set-header X-Forwarded-For %[src]"],
}


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_without_x_forwarded_for_a_client_chooses_its_address(proxy, protocol):
    """The proxy passes on what the client wrote, and the service believes the proxy."""
    spoofed = {"x-forwarded-for": "203.0.113.66"}
    edits = [without(setting) for setting in FORWARDED[proxy.name]]
    async with chain(proxy, always(COMPLETION), edits=edits) as one:
        if protocol == "grpc":
            await one.front.chat.Complete(request(), metadata=list(spoofed.items()))
        else:
            await post(one, headers=spoofed)
        (record,) = await one.service.recorded()

    assert "203.0.113.66" == record["client_address"]


SHORT_TIMEOUTS = {
    "nginx": [
        ("proxy_read_timeout 660s", "proxy_read_timeout 1s"),
        ("grpc_read_timeout 660s", "grpc_read_timeout 1s"),
    ],
    "haproxy": [("timeout server 660s", "timeout server 1s")],
}
SILENT = (Pause(2.5), *COMPLETION)


async def test_a_timeout_shorter_than_a_call_cuts_it(proxy):
    """The proxy answers with 504."""
    async with chain(proxy, always(SILENT), edits=SHORT_TIMEOUTS[proxy.name]) as one:
        response, failure = await asyncio.gather(post(one), failing(one.front.chat.Complete(request())))

    assert 504 == response.status_code
    assert "504" in failure.message


@pytest.mark.parametrize("heartbeat_s", [0.3, None])
async def test_heartbeats_keep_a_silent_stream(proxy, heartbeat_s):
    """A stream with comments outlasts the proxy's timeout, and one without them does not."""
    script, events = released_one_by_one()
    settings = {"edits": SHORT_TIMEOUTS[proxy.name], "http_heartbeat_s": heartbeat_s}
    async with chain(proxy, always((Pause(2.5), *script)), **settings) as one:
        for event in events:
            event.set()
        async with streaming(one) as response:
            received = await response.aread()

    assert (heartbeat_s is not None) == received.endswith(b"data: [DONE]\n\n")
