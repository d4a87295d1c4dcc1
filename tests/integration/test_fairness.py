"""Capacity between callers, over real sockets: one that takes all of it keeps no other out."""

from contextlib import AsyncExitStack

import pytest

from support.app import failing, request, running_app
from support.http2_peer import http2_peer
from support.http_client import COMPLETIONS, head, raw_caller, request_body, running_http
from support.tenants import Keys, bearer
from support.waiting import eventually

COMPLETE = "/togetherchat.v1.ChatService/Complete"
SMALL = {"max_concurrent_calls": 2, "max_queued_calls": 3, "sandbox_tokens_per_second": 0}
MODEL = "openai/gpt-oss-120b"


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path / "keys")


def overloaded(app):
    """The tenants of the calls that were rejected for lack of capacity."""
    return [record["tenant"] for record in app.records() if record.get("reason") == "OVERLOADED"]


async def test_requests_without_a_body_keep_nobody_out(keys):
    """The newest of them is answered with 503, and the other tenant's call is served."""
    greedy, modest = keys.create("greedy"), keys.create("modest")
    async with (
        AsyncExitStack() as stack,
        running_http(api_keys_file=str(keys.path), **SMALL) as service,
    ):
        for number in range(1, 6):
            caller = await stack.enter_async_context(raw_caller(service.address))
            await caller.send(head("content-length: 100", f"authorization: Bearer {greedy}"))
            await eventually(lambda number=number: service.app.app.in_flight == number)
        response = await service.client.post(
            COMPLETIONS, json=request_body(model=MODEL), headers=dict(bearer(modest))
        )

        assert 200 == response.status_code, response.text
        assert b" 503 " in await caller.read_head()
        await eventually(lambda: service.app.app.in_flight == 4)
        assert ["greedy"] == overloaded(service.app)


async def test_calls_without_a_message_keep_nobody_out(keys):
    """The same over gRPC. Its core can send no status while it waits for a message."""
    greedy, modest = keys.create("greedy"), keys.create("modest")
    async with (
        running_app(api_keys_file=str(keys.path), **SMALL) as app,
        http2_peer(app.addresses.grpc) as peer,
    ):
        for number in range(1, 6):
            peer.open(2 * number - 1, COMPLETE, bearer(greedy))
            await eventually(lambda number=number: app.app.in_flight == number)
        await app.chat.Complete(request(model=MODEL), metadata=bearer(modest))

        await eventually(lambda: app.app.in_flight == 4)
        assert ["greedy"] == overloaded(app)


async def test_an_unknown_priority_is_rejected():
    """The message names the values."""
    async with running_app(**SMALL) as app:
        failure = await failing(app.chat.Complete(request(model=MODEL), metadata=[("x-priority", "urgent")]))
        await app.chat.Complete(request(model=MODEL), metadata=[("x-priority", "low")])

    assert ("INVALID_REQUEST", "`x-priority` must be low, normal or high") == (
        failure.info.reason,
        failure.message,
    )
