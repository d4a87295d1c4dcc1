"""Spans of a service with several workers, and of one with certificates, as a collector gets them."""

import httpx
import pytest
import trustme
from grpc import aio

from support.app import collect, request
from support.collector import CLIENT, SERVER, running_collector, sent_to, traced_app
from support.fleet import running_fleet
from support.http_client import COMPLETIONS, ask
from support.tls import Folder, Pair, caller_context, credentials
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc

CONNECTIONS_MAX = 64
"""That all of them come to one of two workers is less likely than a hardware fault."""
ALONE = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]


@pytest.fixture
def pair():
    return Pair(trustme.CA())


def workers_of(spans):
    return {span.resource["service.instance.id"] for span in spans}


async def stream_once(address, number):
    """One stream over a connection of its own."""
    async with aio.insecure_channel(address, options=ALONE) as channel:
        stub = service_grpc.ChatServiceStub(channel)
        _, failure = await collect(
            stub.StreamComplete(request(), metadata=[("x-request-id", f"call-{number}")])
        )
    assert failure is None
    return f"call-{number}"


async def test_each_worker_sends_the_spans_of_its_calls():
    """Whole and once: a call's two spans come from one process, which names itself."""
    async with running_collector() as collector:
        environment = sent_to(collector.port)
        async with running_fleet("--traces", "otlp", environment=environment) as fleet:
            asked = []
            for number in range(CONNECTIONS_MAX):
                asked.append(await stream_once(fleet.rpc, number))
                await collector.seen(2 * len(asked))
                if len(workers_of(collector.spans)) == 2:
                    break
        spans = collector.spans

    calls = {span.attributes["togetherchat.request_id"]: span for span in spans if span.kind == SERVER}
    attempts = {span.parent_span_id: span for span in spans if span.kind == CLIENT}
    assert set(asked) == set(calls)
    assert 2 * len(asked) == len(spans)
    assert 2 == len(workers_of(spans))
    for call in calls.values():
        attempt = attempts[call.span_id]
        assert (call.trace_id, call.resource) == (attempt.trace_id, attempt.resource)
        assert {"127.0.0.1", int(fleet.rpc.rpartition(":")[2])} == {
            call.attributes["server.address"],
            call.attributes["server.port"],
        }


async def test_a_door_with_a_certificate_is_https(pair, tmp_path):
    """What a caller says of scheme and host is its own text, and nowhere."""
    folder = Folder(tmp_path).put(pair)
    claims = {"x-forwarded-proto": "canary", "forwarded": "proto=canary", "host": "canary"}
    async with (
        traced_app(http_listen="127.0.0.1:0", sandbox_tokens_per_second=0, **folder.settings()) as (
            app,
            collector,
        ),
        httpx.AsyncClient(verify=caller_context(pair, tmp_path), trust_env=False) as client,
        aio.secure_channel(app.addresses.grpc, credentials(pair)) as channel,
    ):
        port = app.addresses.http.rpartition(":")[2]
        answer = await client.post(f"https://localhost:{port}{COMPLETIONS}", json=ask(), headers=claims)
        await service_grpc.ChatServiceStub(channel).Complete(request())
        over_http, over_grpc, *_ = await collector.seen(4)

    assert 200 == answer.status_code
    assert ("https", "127.0.0.1") == tuple(
        over_http.attributes[name] for name in ("url.scheme", "server.address")
    )
    assert "127.0.0.1" == over_grpc.attributes["server.address"]
    assert b"canary" not in b"".join(collector.exports)
