"""The server under agents that instrument every gRPC and HTTP server of a process, as operators inject them."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from togetherchat_client import connect

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
AGENTS = {
    "OpenTelemetry": [BIN / "opentelemetry-instrument"],
    "ddtrace": [BIN / "ddtrace-run"],
    "New Relic": [BIN / "newrelic-admin", "run-program"],
}
QUIET = {
    "OTEL_TRACES_EXPORTER": "console",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
    "DD_TRACE_ENABLED": "true",
    "DD_TRACE_AGENT_URL": "http://127.0.0.1:1",
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
    "DD_REMOTE_CONFIGURATION_ENABLED": "false",
    "NEW_RELIC_MONITOR_MODE": "false",
    "NEW_RELIC_LICENSE_KEY": "0" * 40,
}
MODEL = "openai/gpt-oss-120b"
WARNING = "an agent instruments gRPC servers"
"""New Relic instruments only servers with threads."""


@contextmanager
def instrumented(agent, folder):
    """Run the server under an agent. Yield its gRPC and HTTP addresses, and its log so far."""
    metadata = folder / "togetherchat-0.dist-info" / "METADATA"  # the package is not installed here
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: togetherchat\nVersion: 0\n")
    sources = os.pathsep.join([*(str(ROOT / source) for source in ("protos", "server")), str(folder)])
    process = subprocess.Popen(
        [
            *AGENTS[agent], sys.executable, "-m", "togetherchat_server", "--sandbox", "--sandbox-tokens-per-second=0",
            "--grpc-listen=127.0.0.1:0", "--http-listen=127.0.0.1:0", "--admin-listen=off", "--log-format=json",
        ],
        env={**os.environ, **QUIET, "PYTHONPATH": sources},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    log = []
    try:
        for line in process.stderr:
            log.append(line)
            if found := re.search(r"gRPC on (\S+), HTTP on (\S+?)/v1", line):
                break
        else:
            pytest.fail("".join(log))
        yield found[1], found[2], log
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("agent", AGENTS)
def test_every_call_works_under_an_agent(agent, tmp_path):
    """Unary calls, streams, a health watch and HTTP. Twenty times: some calls bypass interceptors."""
    body = json.dumps(
        {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    ).encode()
    with instrumented(agent, tmp_path) as (address, url, log), connect(address) as client:
        for _ in range(20):
            assert client.complete(MODEL, "hi").choices
            with client.stream(MODEL, "hi") as stream:
                assert [*stream][-1].HasField("completed")
        with grpc.insecure_channel(address) as channel:
            watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=20)
            assert b"\x08\x01" == next(watch)
            watch.cancel()
        sent = urllib.request.Request(
            f"{url}/v1/chat/completions", body, {"content-type": "application/json"}
        )
        with urllib.request.urlopen(sent, timeout=20) as response:
            assert response.read().endswith(b"data: [DONE]\n\n")

    assert (agent != "New Relic") == any(WARNING in line for line in log)
