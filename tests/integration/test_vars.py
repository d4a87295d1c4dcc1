"""What the admin port says of what the process holds."""

import asyncio
import json
import urllib.request

from support.app import request, running_app

AT_REST = {
    "calls_in_flight": 0,
    "calls_waiting": 0,
    "log_lines_dropped": 0,
    "upstream_connections_leased": 0,
    "upstream_requests_in_flight": 0,
}


async def counts(app) -> dict[str, int]:
    def fetch() -> bytes:
        with urllib.request.urlopen(f"http://{app.addresses.admin}/vars", timeout=5) as page:
            return page.read()

    return json.loads(await asyncio.to_thread(fetch))


async def test_counts_follow_a_call():
    """A stream in progress is one call, one request and one connection; after it, nothing is left."""
    async with running_app() as app:
        call = app.chat.StreamComplete(request(model="sandbox/stall-after-3"))
        await call.read()
        during = await counts(app)
        call.cancel()
        while (after := await counts(app))["calls_in_flight"]:  # noqa: ASYNC110  asked from outside
            await asyncio.sleep(0)

        busy = {"calls_in_flight": 1, "upstream_connections_leased": 1, "upstream_requests_in_flight": 1}
        assert {**AT_REST, **busy} == {name: during[name] for name in AT_REST}
        assert AT_REST == {name: after[name] for name in AT_REST}
        assert during["tasks"] > after["tasks"] > 0
        assert after["memory_blocks"] > 0


async def test_a_connection_that_rests_is_counted():
    """It is given back after a call and kept for the next."""
    async with running_app() as app:
        await app.chat.Complete(request(model="sandbox/fast"))

        assert 1 == (await counts(app))["upstream_connections_resting"]
