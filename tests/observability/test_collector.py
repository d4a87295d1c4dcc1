"""Spans of a real server, received by OpenTelemetry's own collector: `make test-observability`."""

import httpx
import pytest
import trustme
from grpc import aio

from support import openai
from support.app import CANARY_KEY, CANARY_PROMPT, collect, failing, request
from support.collector import CLIENT, ERROR, SERVER, UNSET, sent_to
from support.command import running_command
from support.http_client import COMPLETIONS, request_body
from support.real_collector import real_collector
from support.scripted_upstream import ScriptedUpstream, in_turn
from support.tls import Folder, Pair
from support.upstream_script import json_response, sse
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
PARENT = (("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01"), ("tracestate", "vendor=one"))
SECRET_TEXT = "canary completion, never to be exported"
SERVED = {"id": "answer-1", "model": "served/model"}
UNARY = json_response(200, openai.completion(SECRET_TEXT, usage=openai.usage(5, 7), **SERVED))
STREAM = sse(
    [
        openai.chunk(SECRET_TEXT, **SERVED),
        openai.chunk("", finish_reason="length", usage=openai.usage(5, 7), **SERVED),
        openai.DONE,
    ]
)
BUSY = json_response(503, {"error": {"message": f"{CANARY_PROMPT} {CANARY_KEY}"}})
LOCAL = (
    "--grpc-listen",
    "127.0.0.1:0",
    "--http-listen",
    "127.0.0.1:0",
    "--admin-listen",
    "off",
    "--log-format",
    "json",
)


async def serve(collector, *flags, responses, calls, until, environment):
    """Run the server as a process, make the calls, stop it; return its log."""
    async with ScriptedUpstream(in_turn(*responses)) as upstream:
        variables = {
            "TOGETHER_BASE_URL": upstream.base_url,
            "TOGETHER_API_KEY": CANARY_KEY,
            **sent_to(collector.port),
            **environment,
        }
        arguments = (*LOCAL, "--traces", "otlp", *flags)
        async with running_command(*arguments, environment=variables) as command:
            banner = await command.wait_for_line(" SERVING: ")
            rpc = banner.partition("gRPC on ")[2].partition(",")[0]
            http = banner.partition("HTTP on ")[2].partition("/v1")[0]
            async with (
                aio.insecure_channel(rpc, options=[("grpc.enable_retries", 0)]) as channel,
                httpx.AsyncClient(base_url=http, trust_env=False) as client,
            ):
                await calls(service_grpc.ChatServiceStub(channel), client)
            await until(command)
            command.process.terminate()
            await command.wait_for_exit()
    return command.error_text


async def test_spans_of_all_kinds_of_calls_arrive(tmp_path):
    """Unary, streamed, retried, failed, over HTTP: each with its attempts, in its caller's trace, without content."""

    async def calls(chat, client):
        await chat.Complete(request(), metadata=PARENT)
        await collect(chat.StreamComplete(request(), metadata=PARENT))
        await chat.Complete(request(), metadata=PARENT)
        failure = await failing(chat.Complete(request(), metadata=PARENT))
        assert "UPSTREAM_OVERLOADED" == failure.info.reason
        response = await client.post(COMPLETIONS, json=request_body(), headers=dict(PARENT))
        assert 200 == response.status_code

    async with real_collector(tmp_path) as collector:
        log = await serve(
            collector,
            "--max-retries",
            "1",
            responses=(UNARY, STREAM, BUSY, UNARY, BUSY, BUSY, UNARY),
            calls=calls,
            until=lambda _: collector.seen(12),
            environment={},
        )
        spans = await collector.seen(12)

    ended = [
        ("togetherchat.v1.ChatService/Complete", UNSET, [UNSET]),
        ("togetherchat.v1.ChatService/StreamComplete", UNSET, [UNSET]),
        ("togetherchat.v1.ChatService/Complete", UNSET, [ERROR, UNSET]),
        ("togetherchat.v1.ChatService/Complete", ERROR, [ERROR, ERROR]),
        ("POST /v1/chat/completions", UNSET, [UNSET]),
    ]
    found = [span for span in spans if span.kind == SERVER]
    attempts = [span for span in spans if span.kind == CLIENT]
    assert ended == [
        (call.name, call.status, [one.status for one in attempts if one.parent_span_id == call.span_id])
        for call in found
    ]
    assert {(TRACE_ID, PARENT_ID, "vendor=one")} == {
        (span.trace_id, span.parent_span_id, span.state) for span in found
    }
    assert {"served/model"} == {
        one.attributes["gen_ai.response.model"] for one in attempts if one.status == UNSET
    }
    assert {"togetherchat"} == {span.resource["service.name"] for span in spans}
    kept = collector.file.read_bytes().decode("latin-1") + collector.log.read_text("utf-8") + log
    assert [] == [word for word in ("canary", CANARY_KEY, "Bearer") if word in kept]


@pytest.mark.parametrize("mutual", [False, True], ids=["tls", "mutual tls"])
async def test_spans_are_exported_encrypted_and_compressed(tmp_path, mutual):
    """As configured by the OTEL_* variables that the page documents."""
    authority = trustme.CA()
    theirs = Folder(tmp_path).put(Pair(authority), client_ca=authority)
    ours = tmp_path / "ours"
    ours.mkdir()
    own = Folder(ours).put(Pair(authority), client_ca=authority)
    receiver = {"cert_file": str(theirs.certificate), "key_file": str(theirs.key)}
    if mutual:
        receiver["client_ca_file"] = str(theirs.client_ca)

    async def calls(chat, _client):
        await chat.Complete(request())

    async with real_collector(tmp_path, tls=receiver) as collector:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"https://localhost:{collector.port}",
            "OTEL_EXPORTER_OTLP_CERTIFICATE": str(own.client_ca),
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        }
        if mutual:
            environment["OTEL_EXPORTER_OTLP_CLIENT_KEY"] = str(own.key)
            environment["OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"] = str(own.certificate)
        await serve(
            collector,
            responses=(UNARY,),
            calls=calls,
            until=lambda _: collector.seen(2),
            environment=environment,
        )
        spans = await collector.seen(2)

    assert [SERVER, CLIENT] == [span.kind for span in spans]


async def test_a_collector_that_requires_a_certificate_gets_no_span_without_one(tmp_path):
    """This proves that the test above tests mutual TLS. The log has one message."""
    authority = trustme.CA()
    theirs = Folder(tmp_path).put(Pair(authority), client_ca=authority)
    receiver = {
        "cert_file": str(theirs.certificate),
        "key_file": str(theirs.key),
        "client_ca_file": str(theirs.client_ca),
    }

    async def calls(chat, _client):
        await chat.Complete(request())

    async with real_collector(tmp_path, tls=receiver) as collector:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"https://localhost:{collector.port}",
            "OTEL_EXPORTER_OTLP_CERTIFICATE": str(theirs.client_ca),
            "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5",
        }
        log = await serve(
            collector,
            responses=(UNARY,),
            calls=calls,
            until=lambda command: command.wait_for_line("accepts no spans"),
            environment=environment,
        )

    assert [] == collector.spans
    assert 1 == log.count("the trace collector accepts no spans")
