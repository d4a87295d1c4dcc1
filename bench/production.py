"""What a service in production has and the benchmark's other contestants lack.

These are API keys, a tenant's limits, a collector of traces, and scrapes of the metrics.
"""

import contextlib
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import grpc

TENANT: Final = "bench"
TENANTS: Final = f"""
[default]
requests_per_minute = 60

[tenants.{TENANT}]
models = ["bench-*"]
max_concurrent_calls = 20_000
requests_per_minute = 10_000_000
tokens_per_minute = 1_000_000_000
max_output_tokens = 100_000
"""
"""Every limit is checked, and none rejects a call of the benchmark."""
EXPORT: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
SCRAPE_INTERVAL_S: Final = 1.0
SCRAPE_TIMEOUT_S: Final = 10.0


@contextlib.contextmanager
def profile() -> Generator[dict[str, str], None, None]:
    """Yield what replaces `keys`, `tenants`, `key` and `collector` in the contestant's definition."""
    with key_files() as files, collector() as address:
        yield {**files, "collector": address}


@contextlib.contextmanager
def collector() -> Generator[str, None, None]:
    """Accept exports of traces and discard them. Yield the address."""
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    export: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(_discard)
    _, service, method = EXPORT.split("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: export}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=None)


def _discard(_request: bytes, _context: object) -> bytes:
    return b""


@contextlib.contextmanager
def key_files() -> Generator[dict[str, str], None, None]:
    """Create a key of one tenant, and yield `keys`, `tenants` and `key` for the contestant's command."""
    with TemporaryDirectory() as folder:
        keys, tenants = Path(folder, "keys.jsonl"), Path(folder, "tenants.toml")
        tenants.write_text(TENANTS)
        create = [sys.executable, "-m", "togetherchat_server", "keys", "create", "--tenant", TENANT]
        created = subprocess.run(
            [*create, "--api-keys-file", str(keys)], capture_output=True, text=True, check=True
        )
        yield {"keys": str(keys), "tenants": str(tenants), "key": created.stdout.strip()}


@contextlib.contextmanager
def scraping(url: str) -> Generator[None, None, None]:
    """Read the metrics every second meanwhile."""
    ended = threading.Event()

    def scrape() -> None:
        while not ended.wait(SCRAPE_INTERVAL_S):
            # A busy service may respond late. The next scrape follows.
            with (
                contextlib.suppress(urllib.error.URLError, TimeoutError, ConnectionError),
                urllib.request.urlopen(url, timeout=SCRAPE_TIMEOUT_S) as page,
            ):
                page.read()

    thread = threading.Thread(target=scrape, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(SCRAPE_TIMEOUT_S)
