"""A collector of traces: OTLP's TraceService on the loopback, which keeps every export."""

import asyncio
import os
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import grpc
from grpc import aio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp

from support.app import running_app
from support.http_client import running_http
from support.waiting import eventually

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
SERVER, CLIENT = 2, 3
UNSET, ERROR = 0, 2


@dataclass(frozen=True, kw_only=True)
class SeenSpan:
    """One exported span, its ids in hexadecimal."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_span_id: str
    state: str
    start_ns: int
    end_ns: int
    status: int
    attributes: dict
    resource: dict


class Collected:
    """Reads the spans in `exports`, which are bytes."""

    @property
    def spans(self):
        return [span for data in self.exports for span in _spans(data)]

    def of_kind(self, kind):
        return [span for span in self.spans if span.kind == kind]

    async def seen(self, count):
        """Wait for this many spans; return them with servers first, each followed by its attempts."""
        await eventually(lambda: len(self.spans) >= count)
        return sorted(self.spans, key=lambda span: (span.kind, span.start_ns))


@dataclass(kw_only=True)
class Collector(Collected):
    """A running collector and its exports."""

    port: int
    server: aio.Server
    exports: list = field(default_factory=list)


def _spans(data):
    for resource in otlp.ExportTraceServiceRequest.FromString(data).resource_spans:
        about = _values(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield SeenSpan(
                    name=span.name,
                    kind=span.kind,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_span_id=span.parent_span_id.hex(),
                    state=span.trace_state,
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    status=span.status.code,
                    attributes=_values(span.attributes),
                    resource=about,
                )


def _values(attributes):
    return {pair.key: _value(pair.value) for pair in attributes}


def _value(value):
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)


@asynccontextmanager
async def running_collector(*, hangs=False):
    """Serve on a free port. With `hangs`, the collector accepts exports and sends no response."""
    exports = []

    async def export(data, context):
        exports.append(data)
        if hangs:
            await asyncio.Event().wait()
        return b""

    server = aio.server()
    method = grpc.unary_unary_rpc_method_handler(export)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Export": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield Collector(port=port, server=server, exports=exports)
    finally:
        await server.stop(None)


def sent_to(port):
    """The variables of a service that sends its traces to `port` every 20 ms."""
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_BSP_SCHEDULE_DELAY": "20"}


@contextmanager
def telemetry(port, **variables):
    """Set the variables of `sent_to` and others in this process while the context is open."""
    chosen = {**sent_to(port), **variables}
    before = {name: os.environ.get(name) for name in chosen}
    os.environ.update(chosen)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@asynccontextmanager
async def traced_app(base_url=None, *, environment=None, **settings):
    """A service, and the collector that receives its traces."""
    async with running_collector() as collector:
        with telemetry(collector.port, **(environment or {})):
            async with running_app(base_url, traces="otlp", **settings) as app:
                yield app, collector


@asynccontextmanager
async def traced_http(base_url=None, **settings):
    """As `traced_app`, with the HTTP listener."""
    async with running_collector() as collector:
        with telemetry(collector.port):
            async with running_http(base_url, traces="otlp", **settings) as http:
                yield http, collector
