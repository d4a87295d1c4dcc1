"""Makes calls with the Python client under one agent: python instrumented.py AGENT blocking|asyncio TARGET MODEL.

Each agent is configured without a network: it collects in this process. The program prints one JSON object
with what the calls returned, and the number of records that the agent collected.
"""

import asyncio
import json
import os
import sys
import threading
from collections.abc import Callable

TEXT = "one two three"
FOREVER = " ".join(str(number) for number in range(1000))


def opentelemetry() -> Callable[[], int]:
    from opentelemetry import trace
    from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient, GrpcInstrumentorClient
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    GrpcInstrumentorClient().instrument()
    GrpcAioInstrumentorClient().instrument()
    return lambda: len(exporter.get_finished_spans())


def ddtrace() -> Callable[[], int]:
    os.environ |= {
        "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
        "DD_REMOTE_CONFIGURATION_ENABLED": "false",
        "DD_TRACE_AGENT_URL": "http://127.0.0.1:1",
    }
    from ddtrace import patch
    from ddtrace.trace import TraceFilter, tracer

    collected = []

    class Collect(TraceFilter):
        def process_trace(self, trace):
            collected.extend(trace)

    tracer.configure(trace_processors=[Collect()])
    patch(grpc=True)
    return lambda: len(collected)


def sentry() -> Callable[[], int]:
    import sentry_sdk
    from sentry_sdk.integrations.grpc import GRPCIntegration

    class Collect(sentry_sdk.Transport):
        collected = 0

        def capture_envelope(self, envelope):
            for item in envelope.items:
                Collect.collected += len((item.payload.json or {}).get("spans", []))

    sentry_sdk.init(
        dsn="http://public@127.0.0.1:1/1",
        transport=Collect,
        traces_sample_rate=1.0,
        integrations=[GRPCIntegration()],
    )
    transaction = sentry_sdk.start_transaction(name="program")
    transaction.__enter__()

    def finish() -> int:
        transaction.__exit__(None, None, None)
        sentry_sdk.flush()
        return Collect.collected

    return finish


def newrelic() -> Callable[[], int]:
    os.environ |= {"NEW_RELIC_DEVELOPER_MODE": "true", "NEW_RELIC_LICENSE_KEY": "0" * 40}
    import newrelic.agent

    newrelic.agent.initialize()
    application = newrelic.agent.register_application(timeout=10)
    task = newrelic.agent.BackgroundTask(application, name="program")
    task.__enter__()

    def finish() -> int:
        task.__exit__(None, None, None)
        import grpc._channel

        # The agent replaces methods of gRPC's blocking callables, and nothing of its asyncio API.
        return int(hasattr(grpc._channel._UnaryStreamMultiCallable.__call__, "__wrapped__"))

    return finish


AGENTS = {each.__name__: each for each in (opentelemetry, ddtrace, sentry, newrelic)}


def described(error) -> dict:
    return {
        "class": type(error).__name__,
        "code": error.code.name,
        "reason": error.reason,
        "violations": [each.field for each in error.violations],
        "metadata": bool(error.info.metadata),
    }


def blocking(target: str, model: str) -> dict:
    from togetherchat_client import TogetherChatError, connect, text_of

    seen, infos = {}, {}
    with connect(target, timeout_s=60) as client:
        seen["unary"] = text_of(
            client.complete("a/b", f"echo: {TEXT}", on_info=lambda info: infos.update(unary=info))
        )
        with client.stream("a/b", f"echo: {TEXT}", on_info=lambda info: infos.update(stream=info)) as stream:
            seen["stream"] = text_of(stream.finish())
        with client.stream(f"{model}-left", f"echo: {FOREVER}", max_tokens=2000) as stream:
            next(stream.text())
        with client.stream(f"{model}-cancelled", f"echo: {FOREVER}", max_tokens=2000) as stream:
            next(stream.text())
            threading.Timer(0.1, stream.cancel).start()
            try:
                stream.finish()
            except TogetherChatError as error:
                seen["cancelled"] = described(error)
        try:
            client.complete("a/b", "hi", temperature=9)
        except TogetherChatError as error:
            seen["unary_error"] = described(error)
        try:
            with client.stream("a/b", "hi", temperature=9) as stream:
                stream.finish()
        except TogetherChatError as error:
            seen["stream_error"] = described(error)
        seen["models"] = len(list(client.models()))
        seen["health"] = client.health().name
    seen["info"] = {name: info.upstream for name, info in infos.items()}
    return seen


async def in_asyncio(target: str, model: str) -> dict:
    from togetherchat_client import TogetherChatError, connect_async, text_of

    seen, infos = {}, {}
    async with connect_async(target, timeout_s=60) as client:
        seen["unary"] = text_of(
            await client.complete("a/b", f"echo: {TEXT}", on_info=lambda info: infos.update(unary=info))
        )
        async with client.stream(
            "a/b", f"echo: {TEXT}", on_info=lambda info: infos.update(stream=info)
        ) as stream:
            seen["stream"] = text_of(await stream.finish())
        async with client.stream(f"{model}-left", f"echo: {FOREVER}", max_tokens=2000) as stream:
            await anext(stream.text())
        async with client.stream(f"{model}-cancelled", f"echo: {FOREVER}", max_tokens=2000) as stream:
            await anext(stream.text())
            asyncio.get_running_loop().call_later(0.1, stream.cancel)
            try:
                await stream.finish()
            except TogetherChatError as error:
                seen["cancelled"] = described(error)
        try:
            await client.complete("a/b", "hi", temperature=9)
        except TogetherChatError as error:
            seen["unary_error"] = described(error)
        try:
            async with client.stream("a/b", "hi", temperature=9) as stream:
                await stream.finish()
        except TogetherChatError as error:
            seen["stream_error"] = described(error)
        seen["models"] = len([model async for model in client.models()])
        seen["health"] = (await client.health()).name
    seen["info"] = {name: info.upstream for name, info in infos.items()}
    return seen


def main(agent: str, style: str, target: str, model: str) -> None:
    collected = AGENTS[agent]()
    seen = blocking(target, model) if style == "blocking" else asyncio.run(in_asyncio(target, model))
    sys.stdout.write(json.dumps({**seen, "collected": collected()}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
