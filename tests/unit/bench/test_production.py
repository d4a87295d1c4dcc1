"""Tests of the benchmark's production profile."""

from bench import production
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SpanExportResult


def test_the_collector_accepts_an_export():
    """An exporter without a collector would retry, and the figure would contain the retries."""
    with production.collector() as address:
        exporter = OTLPSpanExporter(endpoint=f"http://{address}", insecure=True)
        try:
            assert exporter.export([]) is SpanExportResult.SUCCESS
        finally:
            exporter.shutdown()
