"""Agents that wrap every handler of a gRPC server, as OpenTelemetry's zero-code instrumentation does."""

import logging

import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.app import collect, request, running_app
from togetherchat_server.frontends.grpc.server import AGENT_WARNING

MODEL = "openai/gpt-oss-120b"


class Agent(aio.ServerInterceptor):
    """Expects that a streaming handler is an asynchronous generator."""

    def __init__(self):
        self.seen = []

    async def intercept_service(self, continuation, handler_call_details):
        self.seen.append(handler_call_details.method)
        raise RuntimeError("canary text of an agent")


@pytest.fixture
def agent(monkeypatch):
    """Replace `grpc.aio.server` by a function that adds an interceptor."""
    agent, original = Agent(), aio.server

    def server(*arguments, **named):
        named["interceptors"] = [agent, *(named.get("interceptors") or ())]
        return original(*arguments, **named)

    monkeypatch.setattr(aio, "server", server)
    return agent


async def test_calls_streams_and_watches_work_under_an_agent(agent, caplog):
    """The agent sees nothing of the server, and one line of the log names the alternative."""
    with caplog.at_level(logging.WARNING):
        async with running_app(sandbox_tokens_per_second=0) as app:
            for _ in range(20):  # more than the extra requests for calls, which no interceptor sees
                await app.chat.Complete(request(model=MODEL))
                _, failure = await collect(app.chat.StreamComplete(request(model=MODEL)))
                assert failure is None
            watch = health_pb2_grpc.HealthStub(app.channel).Watch(health_pb2.HealthCheckRequest())
            assert health_pb2.HealthCheckResponse.SERVING == (await watch.read()).status
            watch.cancel()

    assert [] == agent.seen
    assert 1 == [record.getMessage() for record in caplog.records].count(AGENT_WARNING)
