"""Every limit of the service has its name here.

Owns what a setting is called, its default, its range and what it means. Each field of
`Settings` is a flag (`--first-token-timeout-s`), a variable (`TOGETHERCHAT_FIRST_TOKEN_TIMEOUT_S`) and a key
of the TOML file (`first_token_s`). Refuses to know where they are read from.
"""

from typing import Annotated, Literal, final

from pydantic import BaseModel, ConfigDict, Field

from togetherchat_server.config.types import (
    MEBIBYTE,
    Address,
    Aliases,
    Bytes,
    Count,
    NonNegativeSeconds,
    OptionalAddress,
    OptionalText,
    Seconds,
    Traces,
    Workers,
)


@final
class SettingsError(Exception):
    """A setting is wrong. The message is one line that says which, and what to do."""


@final
class Settings(BaseModel):
    """What can be set. Durations in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grpc_listen: Address = Field(
        "127.0.0.1:50051", description="Where callers find the gRPC service; port 0 takes a free one."
    )
    http_listen: OptionalAddress = Field(
        None,
        description="Where OpenAI's clients find the service over HTTP, for example 127.0.0.1:3000, or off.",
    )
    console: bool = Field(
        False, description="A page at / of the HTTP door: models, a playground and live figures."
    )
    admin_listen: OptionalAddress = Field(
        "127.0.0.1:9464",
        description="Where /metrics, /healthz, /readyz and /version are served over HTTP, or off.",
    )
    health_listen: OptionalAddress = Field(
        None,
        description="A second, plaintext gRPC listener with the health service alone, for probes, or off.",
    )
    tls_cert_file: OptionalText = Field(
        None,
        description="The certificate that callers are shown, with its chain: a PEM file, or off.",
    )
    tls_key_file: OptionalText = Field(
        None, description="Its private key, a PEM file; all three are read again when replaced."
    )
    tls_client_ca_file: OptionalText = Field(
        None,
        description="Authorities of callers, who must then show a certificate (mTLS): a PEM file, or off.",
    )
    workers: Workers = Field(
        1, description="Processes that serve, on the same port, or auto: as many as there are CPUs to use."
    )
    worker_heartbeat_timeout_s: Seconds = Field(
        8.0, description="How long one of several workers may give no sign of life before it is replaced."
    )
    sandbox: bool = Field(False, description="Answer from the built-in simulator instead of a provider.")
    sandbox_tokens_per_second: Annotated[float, Field(ge=0, le=1e6)] = Field(
        80.0, description="How fast the simulator writes; 0 is as fast as it can."
    )
    upstream_credentials: Literal["server", "caller", "caller-then-server"] = Field(
        "server",
        description="Whose key the provider is asked with: this service's, or the caller's `authorization`.",
    )
    allow_unauthenticated: bool = Field(
        False,
        description="Serve anyone on an address that is not loopback although this service's own key pays.",
    )
    api_keys_file: OptionalText = Field(
        None,
        description="The file of callers' keys, made by `togetherchat-server keys create`; none: no keys.",
    )
    tenants_file: OptionalText = Field(
        None, description="The file of the limits of each tenant, for callers with keys; none: no limits."
    )
    redis_url: OptionalText = Field(
        None,
        description="The Redis by which replicas share tenants' limits, such as redis://host:6379/0; none: "
        "each counts alone.",
    )
    redis_timeout_s: Seconds = Field(
        0.05, description="How long a call waits for Redis before the limits of its machine alone hold."
    )
    reflection: bool = Field(True, description="Describe the service to grpcurl and its like.")
    log_format: Literal["json", "text"] = Field(
        "text", description="The form of the one line that each call leaves on standard error."
    )
    traces: Traces = Field(
        None, description="Send spans over OTLP to where the OTEL_* variables say; needs [telemetry]."
    )

    call_timeout_s: Seconds = Field(
        600.0, description="The longest that a call may take, whatever its own deadline."
    )
    connect_timeout_s: Seconds = Field(
        5.0, description="The longest that connecting to the provider may take, TLS included."
    )
    first_token_timeout_s: Seconds = Field(
        120.0, description="The longest wait for the first piece of a streamed answer."
    )
    response_timeout_s: Seconds = Field(
        300.0, description="The longest wait for an answer that is not streamed."
    )
    stream_idle_timeout_s: Seconds = Field(60.0, description="The longest silence within a streamed answer.")
    request_read_timeout_s: Seconds = Field(
        60.0, description="How long a caller may take to send its request before its call is dropped."
    )
    write_timeout_s: Seconds = Field(
        30.0, description="How long a caller may refuse to read before its call is dropped."
    )
    max_connection_age_s: Seconds = Field(
        1800.0, description="The age, give or take a tenth, at which a caller's connection is replaced."
    )
    max_concurrent_calls: Count = Field(
        1024, description="Calls in flight; one more is refused as OVERLOADED."
    )
    max_queued_calls: Annotated[int, Field(ge=0, le=100_000)] = Field(
        128, description="Calls that may wait for a place when all are taken."
    )
    queue_timeout_s: Seconds = Field(
        0.25, description="How long one may wait before it is refused as OVERLOADED."
    )
    max_concurrent_calls_per_caller: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        0,
        description="Calls in flight of one caller's key, beyond which CALLER_QUOTA; 0: no bound.",
    )
    auth_failures_per_minute: Annotated[int, Field(ge=0, le=100_000)] = Field(
        60, description="Bad credentials from one address, beyond which it has to wait; 0: no bound."
    )
    memory_shed_ratio: Annotated[float, Field(gt=0, le=1)] = Field(
        0.9, description="From this share of the container's memory on, new calls are refused as OVERLOADED."
    )
    max_retries: Annotated[int, Field(ge=0, le=5)] = Field(
        2, description="How often a request that the provider did not work on is sent again."
    )
    billable_retries: Annotated[int, Field(ge=0, le=1)] = Field(
        0, description="How often one is sent again that may have been worked on, and billed."
    )
    stream_upstream_min_tokens: Annotated[int, Field(ge=0)] = Field(
        4097,
        description="From this `max_tokens` on Complete reads a stream inside, which lasts; 0: always.",
    )
    max_request_bytes: Bytes = Field(32 * MEBIBYTE, description="The largest request.")
    max_response_bytes: Bytes = Field(16 * MEBIBYTE, description="The largest answer that is not streamed.")
    max_event_bytes: Bytes = Field(MEBIBYTE, description="The largest single event of a stream.")
    max_stream_bytes: Bytes = Field(32 * MEBIBYTE, description="The largest streamed answer.")
    model_list_ttl_s: Seconds = Field(
        300.0, description="How long the provider's list of models is taken as fresh."
    )
    alias: Aliases = Field(
        {}, description="Names of your own for models, NAME=MODEL; may be repeated. In the file a table."
    )
    alias_unlisted: bool = Field(
        False, description="Let aliases stand for models that the catalogue does not name: private ones."
    )
    replace_retired: bool = Field(
        True, description="Ask for the successor that Together names where it refuses a model."
    )
    drain_delay_s: NonNegativeSeconds = Field(
        0.0, description="How long new calls are still taken after SIGTERM, so that balancers can notice."
    )
    drain_timeout_s: NonNegativeSeconds = Field(
        30.0, description="How long running calls may finish after that."
    )
