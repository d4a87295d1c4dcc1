import importlib.metadata
import sys

import pytest

from togetherchat_server.cli.main import main


@pytest.mark.parametrize("missing", ["opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-grpc"])
def test_traces_without_their_extra_name_the_line_that_installs_it(missing, monkeypatch, capfd):
    """Before anything is served or a worker started."""
    found = importlib.metadata.distribution

    def distribution(name):
        if name == missing:
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    monkeypatch.setattr(sys, "argv", ["togetherchat-server", "--sandbox", "--traces", "otlp"])

    assert 2 == main()
    assert (
        f"togetherchat-server: --traces otlp needs {missing}: pip install 'togetherchat[server,telemetry]'\n"
        == capfd.readouterr().err
    )


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"])
def test_traces_over_another_protocol_are_refused(variable, monkeypatch, capfd):
    """Rather than lost without a word at a port that speaks HTTP."""
    monkeypatch.setenv(variable, "http/protobuf")
    monkeypatch.setattr(sys, "argv", ["togetherchat-server", "--sandbox", "--traces", "otlp"])

    assert 2 == main()
    assert f"togetherchat-server: {variable}: traces are exported over grpc only" in capfd.readouterr().err
