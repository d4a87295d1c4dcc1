"""The contestants, and the commands by which a user would start them: a table.

Knows no load and no figure. `{port}`, `{spare}` (a second free port), `{upstream}` (HOST:PORT) and
`{installed}` (the folder where `make bench` installs) are replaced in commands.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Protocol = Literal["grpc", "http"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One measured program. Without a command, it is the upstream itself."""

    name: str
    label: str
    protocol: Protocol
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    path: str = "/v1/chat/completions"
    health: str = ""
    needs: str = ""
    """A file below the install folder; the contestant is left out if it is missing."""
    needs_flag: str = ""
    """A flag of our server; the contestant is left out if the server does not have it."""
    calls_upstream: bool = True
    streams_max: int = 10_000
    """The most streams that are held open: more fail, or take minutes to open."""
    figures: frozenset[str] = frozenset()
    """The figures for which the contestant is measured; empty: all."""
    in_production: bool = False
    """Whether `{keys}`, `{tenants}`, `{key}` and `{collector}` are replaced, too; see `production`."""
    scraped: str = ""
    """A URL that is read every second, as Prometheus does."""


OURS: Final = (
    sys.executable,
    "-m",
    "togetherchat_server",
    "--admin-listen",
    "off",
    "--max-concurrent-calls",
    "12000",
)
OURS_ENVIRONMENT: Final = {"TOGETHER_BASE_URL": "http://{upstream}/v1", "TOGETHER_API_KEY": "bench"}
"""All features on, as shipped, including the log line of every call. One limit is raised so that ten
thousand streams can be open."""

CONTESTANTS: Final = (
    Contestant(
        name="direct",
        label="direct to the upstream",
        protocol="http",
        health="/v1/models",
    ),
    Contestant(
        name="bare",
        label="bare grpcio.aio handler",
        protocol="grpc",
        command=(sys.executable, "-m", "bench.bare", "--listen", "127.0.0.1:{port}"),
        calls_upstream=False,
    ),
    Contestant(
        name="relay",
        label="minimal grpcio.aio relay",
        protocol="grpc",
        command=(sys.executable, "-m", "bench.relay", "--listen", "127.0.0.1:{port}"),
        environment={"TOGETHER_BASE_URL": "http://{upstream}/v1"},
    ),
    Contestant(
        name="ours",
        label="togetherchat, gRPC",
        protocol="grpc",
        command=(*OURS, "--grpc-listen", "127.0.0.1:{port}"),
        environment=OURS_ENVIRONMENT,
    ),
    Contestant(
        name="ours-http",
        label="togetherchat, HTTP",
        protocol="http",
        command=(*OURS, "--grpc-listen", "127.0.0.1:{spare}", "--http-listen", "127.0.0.1:{port}"),
        environment=OURS_ENVIRONMENT,
        health="/v1/models",
        needs_flag="--http-listen",
    ),
    Contestant(
        name="ours-production",
        label="togetherchat, gRPC, as in production",
        protocol="grpc",
        command=(
            *(sys.executable, "-m", "togetherchat_server", "--grpc-listen", "127.0.0.1:{port}"),
            *("--admin-listen", "127.0.0.1:{spare}", "--max-concurrent-calls", "12000"),
            *("--log-format", "json", "--api-keys-file", "{keys}", "--tenants-file", "{tenants}"),
            *("--traces", "otlp"),
        ),
        environment={
            **OURS_ENVIRONMENT,
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://{collector}",
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.01",
        },
        headers={"authorization": "Bearer {key}"},
        figures=frozenset({"unary", "trickle", "paced burst", "paced steady"}),
        in_production=True,
        scraped="http://127.0.0.1:{spare}/metrics",
    ),
    Contestant(
        name="go",
        label="minimal Go translator",
        protocol="grpc",
        command=(
            "{installed}/bin/translator",
            "--listen",
            "127.0.0.1:{port}",
            "--upstream",
            "http://{upstream}/v1",
        ),
        needs="bin/translator",
    ),
    Contestant(
        name="smg",
        label="SMG",
        protocol="http",
        command=(
            *("{installed}/smg/bin/smg", "launch", "--backend", "openai"),
            *("--worker-urls", "http://{upstream}", "--host", "127.0.0.1", "--port", "{port}"),
            *("--prometheus-host", "127.0.0.1", "--prometheus-port", "{spare}", "--log-level", "warn"),
        ),
        headers={"Authorization": "Bearer bench"},
        health="/health",
        needs="smg/bin/smg",
        streams_max=1_000,
    ),
    Contestant(
        name="portkey",
        label="Portkey gateway",
        protocol="http",
        command=(
            "node",
            "{installed}/portkey/node_modules/@portkey-ai/gateway/build/start-server.js",
            "--headless",
            "--port={port}",
        ),
        environment={"NODE_ENV": "production"},
        headers={
            "Authorization": "Bearer bench",
            "x-portkey-provider": "together-ai",
            "x-portkey-custom-host": "http://{upstream}/v1",
        },
        health="/",
        needs="portkey/node_modules/@portkey-ai/gateway/build/start-server.js",
        streams_max=1_000,
    ),
    Contestant(
        name="litellm",
        label="LiteLLM proxy",
        protocol="http",
        command=(
            *("{installed}/litellm/bin/litellm", "--config", "bench/litellm.yaml"),
            *("--host", "127.0.0.1", "--port", "{port}"),
        ),
        environment={
            "HF_HUB_OFFLINE": "1",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "BENCH_UPSTREAM": "http://{upstream}/v1",
        },
        headers={"Authorization": "Bearer sk-bench"},
        health="/health/liveliness",
        needs="litellm/bin/litellm",
        streams_max=100,
    ),
)
BY_NAME: Final[Mapping[str, Contestant]] = {contestant.name: contestant for contestant in CONTESTANTS}
