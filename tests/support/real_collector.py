"""OpenTelemetry's own collector as a process, which writes what it receives to a file.

OTEL_COLLECTOR names the program: `make test-observability` builds it. Spans here have been through its
receiver, its data model and its encoder, so the file has what another system would receive.
"""

import asyncio
import json
import os
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from support.collector import Collected
from support.waiting import eventually

PROGRAM = os.environ.get("OTEL_COLLECTOR", "otel-collector")
LENGTH_BYTES = 4
REASONABLE_S = 60.0


@dataclass(kw_only=True)
class RealCollector(Collected):
    """A running collector; its file has the spans so far."""

    port: int
    file: Path
    log: Path

    @property
    def exports(self):
        """The messages in the file; each follows its length."""
        data, found = self.file.read_bytes() if self.file.exists() else b"", []
        while data:
            end = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES])
            if len(data) < end:
                break  # still being written
            found.append(data[LENGTH_BYTES:end])
            data = data[end:]
        return found


@asynccontextmanager
async def real_collector(folder, *, tls=None):
    """Run the collector on a free port; `tls` is the TLS configuration of its receiver."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    file, log, settings = folder / "spans", folder / "log", folder / "collector.yaml"
    # JSON is valid YAML.
    settings.write_text(json.dumps(_settings(port, file, tls)), encoding="utf-8")
    with log.open("wb") as stream:
        process = await asyncio.create_subprocess_exec(
            PROGRAM, "--config", f"file:{settings}", stdout=stream, stderr=stream
        )
    try:
        await eventually(lambda: _listens(port, process, log), within_s=REASONABLE_S)
        yield RealCollector(port=port, file=file, log=log)
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def _settings(port, file, tls):
    grpc = {"endpoint": f"127.0.0.1:{port}", **({"tls": tls} if tls else {})}
    return {
        "receivers": {"otlp": {"protocols": {"grpc": grpc}}},
        "exporters": {"file": {"path": str(file), "format": "proto", "flush_interval": "20ms"}},
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["file"]}},
        },
    }


def _listens(port, process, log):
    assert process.returncode is None, log.read_text("utf-8")
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
