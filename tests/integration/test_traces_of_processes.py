"""Spans of a service with several workers, and of one with TLS, as a collector receives them."""

import httpx
import pytest
import trustme
from grpc import aio

from support.app import collect, request
from support.collector import CLIENT, SERVER, running_collector, sent_to, traced_app
from support.fleet import running_fleet
from support.http_client import COMPLETIONS, request_body
from support.tls import Folder, Pair, client_context, credentials
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc

CONNECTIONS_MAX = 64
"""The probability that all of them reach the same of two workers is below that of a hardware fault."""
OWN_CONNECTION = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]


@pytest.fixture
def pair():
    return Pair(trustme.CA())


def workers_of(spans):
    return {span.resource["service.instance.id"] for span in spans}


async def stream_once(address, number):
    """Make one stream over a connection of its own."""
    async with aio.insecure_channel(address, options=OWN_CONNECTION) as channel:
        stub = service_grpc.ChatServiceStub(channel)
        _, failure = await collect(
            stub.StreamComplete(request(), metadata=[("x-request-id", f"call-{number}")])
        )
    assert failure is None
    return f"call-{number}"


async def test_each_worker_exports_the_spans_of_its_calls():
    """Once, and both spans of a call from the same process, which the resource names."""
    async with running_collector() as collector:
        environment = sent_to(collector.port)
        async with running_fleet("--traces", "otlp", environment=environment) as fleet:
            ids = []
            for number in range(CONNECTIONS_MAX):
                ids.append(await stream_once(fleet.grpc, number))
                await collector.seen(2 * len(ids))
                if len(workers_of(collector.spans)) == 2:
                    break
        spans = collector.spans

    calls = {span.attributes["togetherchat.request_id"]: span for span in spans if span.kind == SERVER}
    attempts = {span.parent_span_id: span for span in spans if span.kind == CLIENT}
    assert set(ids) == set(calls)
    assert 2 * len(ids) == len(spans)
    assert 2 == len(workers_of(spans))
    for call in calls.values():
        attempt = attempts[call.span_id]
        assert (call.trace_id, call.resource) == (attempt.trace_id, attempt.resource)
        assert {"127.0.0.1", int(fleet.grpc.rpartition(":")[2])} == {
            call.attributes["server.address"],
            call.attributes["server.port"],
        }


async def test_the_scheme_is_https_with_a_certificate(pair, tmp_path):
    """Scheme and host sent by a caller are its own text, and in no span."""
    folder = Folder(tmp_path).put(pair)
    claims = {"x-forwarded-proto": "canary", "forwarded": "proto=canary", "host": "canary"}
    async with (
        traced_app(http_listen="127.0.0.1:0", sandbox_tokens_per_second=0, **folder.settings()) as (
            app,
            collector,
        ),
        httpx.AsyncClient(verify=client_context(pair, tmp_path), trust_env=False) as client,
        aio.secure_channel(app.addresses.grpc, credentials(pair)) as channel,
    ):
        port = app.addresses.http.rpartition(":")[2]
        answer = await client.post(
            f"https://localhost:{port}{COMPLETIONS}", json=request_body(), headers=claims
        )
        await service_grpc.ChatServiceStub(channel).Complete(request())
        over_http, over_grpc, *_ = await collector.seen(4)

    assert 200 == answer.status_code
    assert ("https", "127.0.0.1") == tuple(
        over_http.attributes[name] for name in ("url.scheme", "server.address")
    )
    assert "127.0.0.1" == over_grpc.attributes["server.address"]
    assert b"canary" not in b"".join(collector.exports)
