"""Every setting of the service: its name, default, range and description.

Each field of `Settings` is a flag (`--first-token-timeout-s`), an environment variable
(`TOGETHERCHAT_FIRST_TOKEN_TIMEOUT_S`) and a key of the TOML file (`first_token_timeout_s`).
`sources.py` reads them.
"""

from typing import Annotated, Literal, final

from pydantic import BaseModel, ConfigDict, Field

from togetherchat_server.config.types import (
    MEBIBYTE,
    Address,
    Aliases,
    Bytes,
    ClaimName,
    Count,
    FileMode,
    HostNames,
    Networks,
    NonNegativeSeconds,
    OptionalAddress,
    OptionalAge,
    OptionalSeconds,
    OptionalText,
    Origins,
    Seconds,
    Traces,
    UpstreamProxy,
    Workers,
)

LogFormat = Literal["json", "text"]


@final
class SettingsError(Exception):
    """A setting is invalid. The message is one line that names the setting, the rule and the fix."""


@final
class Settings(BaseModel):
    """The settings. Durations are in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grpc_listen: Address = Field(
        "127.0.0.1:50051",
        description="HOST:PORT of the gRPC listener, or unix:PATH; port 0 takes a free port; [::]:PORT is "
        "every address.",
    )
    http_listen: OptionalAddress = Field(
        None,
        description="HOST:PORT of the listener for OpenAI-compatible HTTP, for example 127.0.0.1:3000, "
        "unix:PATH, or off.",
    )
    http_allowed_origins: Origins = Field(
        (),
        description="Origins of web pages and desktop apps that may use the HTTP listener (CORS), separated "
        "by commas, such as https://chat.example.com,app://obsidian.md; *: every page; off: only its own.",
    )
    console: bool = Field(
        False, description="Serve a page at / of the HTTP listener: models, a playground and live metrics."
    )
    admin_listen: OptionalAddress = Field(
        "127.0.0.1:9464",
        description="HOST:PORT of the HTTP listener for /metrics, /healthz, /readyz and /version, or off.",
    )
    health_listen: OptionalAddress = Field(
        None,
        description="HOST:PORT of a second gRPC listener for probes: plaintext, health service only; or off.",
    )
    unix_socket_mode: FileMode = Field(
        "0600",
        description="Mode of the files of UNIX sockets that the service listens on.",
        validate_default=True,
    )
    tls_cert_file: OptionalText = Field(
        None, description="PEM file with the server certificate and its chain, or off."
    )
    tls_key_file: OptionalText = Field(
        None,
        description="PEM file with the certificate's private key. All TLS files are reloaded when replaced.",
    )
    tls_client_ca_file: OptionalText = Field(
        None,
        description="PEM file with the authorities of client certificates, which are then required "
        "(mTLS); or off.",
    )
    workers: Workers = Field(
        1, description="Number of worker processes on the same port, or auto: one per usable CPU."
    )
    worker_heartbeat_timeout_s: Seconds = Field(
        8.0, description="Replace a worker that sends no heartbeat for this long. Needs --workers above 1."
    )
    sandbox: bool = Field(False, description="Use the built-in sandbox instead of a provider.")
    sandbox_tokens_per_second: Annotated[float, Field(ge=0, le=1e6)] = Field(
        80.0, description="Output rate of the sandbox; 0 removes the limit."
    )
    upstream_credentials: Literal["server", "caller", "caller-then-server"] = Field(
        "server",
        description="Credential sent to the provider: this service's key (server), or the caller's "
        "`authorization`.",
    )
    upstream_proxy: UpstreamProxy = Field(
        "auto",
        description="URL of the egress proxy to the provider, such as http://proxy.example.com:3128; auto: "
        "as HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY say; off: none.",
    )
    upstream_ca_file: OptionalText = Field(
        None,
        description="PEM file with authorities that are trusted for the provider and the egress proxy, "
        "beside the usual ones; off: none.",
    )
    allow_unauthenticated: bool = Field(
        False, description="Serve any caller on a non-loopback address although this service's own key pays."
    )
    api_keys_file: OptionalText = Field(
        None,
        description="File of the callers' API keys, created by `togetherchat-server keys create`; off: no "
        "keys.",
    )
    max_key_age_s: OptionalAge = Field(
        None,
        description="Age at which an API key is rejected, whatever its expiry; off: keys may live for ever.",
    )
    jwt_issuer: OptionalText = Field(
        None, description="Issuer (`iss`) of the JWTs that callers may send instead of an API key; off: none."
    )
    jwt_audience: OptionalText = Field(
        None, description="Audience (`aud`) that a JWT must have: the name of this service at the issuer."
    )
    jwt_jwks_url: OptionalText = Field(
        None, description="HTTPS URL of the issuer's public keys (JWKS). They are cached and followed."
    )
    jwt_jwks_file: OptionalText = Field(
        None, description="File with the issuer's public keys (JWKS), instead of the URL."
    )
    jwt_jwks_ca_file: OptionalText = Field(
        None, description="PEM file with the authorities of the JWKS URL; off: those of the system."
    )
    jwt_jwks_token_file: OptionalText = Field(
        None, description="File with a bearer token for the JWKS URL, such as a Kubernetes API server's."
    )
    jwt_tenant_claim: ClaimName = Field(
        "sub",
        description="Claim that names the caller's tenant: a name, or a JSON pointer such as "
        "/kubernetes.io/namespace.",
    )
    tenants_file: OptionalText = Field(
        None,
        description="TOML file with the limits of each tenant, and its JWTs and certificates; off: no "
        "limits. Needs API keys, JWTs or client certificates.",
    )
    output_reserve_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        1024,
        description="Output that a tenant's limit of tokens expects of a call without `max_tokens`, until it "
        "has ended.",
    )
    offline_budget_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        0.05,
        description="Fraction of a tenant's budget that each replica may commit while Redis is unavailable.",
    )
    redis_url: OptionalText = Field(
        None,
        description="Redis through which replicas share tenants' limits, such as redis://host:6379/0; "
        "off: each counts alone.",
    )
    redis_timeout_s: Seconds = Field(
        0.05,
        description="How long a call waits for Redis before the limits are counted on this machine only.",
    )
    trusted_proxies: Networks = Field(
        (),
        description="Addresses and networks of the proxies in front, separated by commas. Their "
        "x-forwarded-for and x-forwarded-host are believed, and on an HTTP listener without TLS their PROXY "
        "protocol; off: none.",
    )
    admin_hosts: HostNames = Field(
        (),
        description="Host names under which the admin listener may be requested, separated by commas, beside "
        "IP addresses, names without a dot and names of the cluster.",
    )
    grpc_request_compression: bool = Field(
        False,
        description="Accept compressed gRPC requests. gRPC decompresses a message before this service can "
        "check its sender.",
    )
    reflection: bool = Field(True, description="Serve gRPC reflection, which grpcurl and similar tools use.")
    log_format: Literal["auto", "json", "text"] = Field(
        "auto",
        description="Format of the log on standard error, one line per call: json, text, or auto (text on a "
        "terminal, else json).",
    )
    audit_log: OptionalText = Field(
        None,
        description="File of the audit log, one JSON object per line for each security event, or stderr; "
        "off: none.",
    )
    traces: Traces = Field(
        None,
        description="Export spans over OTLP as the OTEL_* variables configure: otlp or off. Needs the extra "
        "[telemetry].",
    )
    usage_database: OptionalText = Field(
        None,
        description="Database of the usage ledger, sqlite:///PATH or postgresql://USER@HOST/DATABASE; off: "
        "none. Needs the extra [usage], and [postgres].",
    )
    usage_spill_dir: OptionalText = Field(
        "auto",
        description="Folder in which rows of the ledger wait for the database; auto: beside the file of "
        "SQLite, or $XDG_STATE_HOME/togetherchat/usage-spill; off: rows wait in memory.",
    )
    usage_retention_days: Annotated[int, Field(ge=1, le=36_500)] = Field(
        400, description="Days for which the ledger keeps each call. Daily sums are kept for ever."
    )

    call_timeout_s: Seconds = Field(
        600.0, description="Longest duration of a call, whatever its own deadline."
    )
    connect_timeout_s: Seconds = Field(
        5.0, description="Longest time to connect to the provider, TLS included."
    )
    first_token_timeout_s: Seconds = Field(
        120.0, description="Longest wait for the first event of a streamed completion."
    )
    response_timeout_s: Seconds = Field(
        300.0, description="Longest wait for a completion that is not streamed."
    )
    stream_idle_timeout_s: Seconds = Field(60.0, description="Longest pause within a streamed completion.")
    request_read_timeout_s: Seconds = Field(
        60.0, description="Longest time for a caller to send its request."
    )
    write_timeout_s: Seconds = Field(
        30.0,
        description="Longest time for a caller to accept a message; then the call ends with CALLER_STALLED.",
    )
    http_heartbeat_s: OptionalSeconds = Field(
        None,
        description="Silence after which an HTTP stream sends a comment, its status before the first event; "
        "then failures are events of the stream; off: never.",
    )
    http_idle_timeout_s: Seconds = Field(
        75.0,
        description="Time without a request after which an HTTP connection is closed. Longer than clients "
        "and proxies keep idle connections: those of Google Cloud's load balancers 600 s.",
    )
    max_connections: Count = Field(
        4096,
        description="Open connections of each listener; fewer if the process may open fewer files. The HTTP "
        "listener closes the longest idle one for a new one.",
    )
    max_connection_idle_s: Seconds = Field(
        600.0, description="Time without a call after which a gRPC connection is closed gracefully."
    )
    max_connection_age_s: Seconds = Field(
        1800.0, description="Age, within a tenth, at which a caller's connection is closed gracefully."
    )
    max_concurrent_calls: Count = Field(
        1024, description="Calls in flight. Excess calls wait in the queue, then fail with OVERLOADED."
    )
    max_queued_calls: Annotated[int, Field(ge=0, le=100_000)] = Field(
        128, description="Calls that may wait in the queue when all permits are in use."
    )
    max_merge_interval_s: Annotated[float, Field(ge=0, le=10)] = Field(
        0.25,
        description="Longest time that the read of a stream is deferred when the process approaches "
        "saturation, so that tokens merge into fewer messages; 0: never.",
    )
    queue_timeout_s: Seconds = Field(
        0.25, description="Longest wait in the queue; then the call fails with OVERLOADED."
    )
    max_concurrent_calls_per_caller: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        0,
        description="Calls in flight of one caller's key; excess calls fail with CALLER_QUOTA; 0: no limit.",
    )
    auth_failures_per_minute: Annotated[int, Field(ge=0, le=100_000)] = Field(
        60,
        description="Bad credentials per minute from one address; excess calls fail with CALLER_QUOTA; 0: "
        "no limit.",
    )
    memory_shed_ratio: Annotated[float, Field(gt=0, le=1)] = Field(
        0.9,
        description="Fraction of the container's memory limit at which new calls are rejected with "
        "OVERLOADED.",
    )
    max_retries: Annotated[int, Field(ge=0, le=5)] = Field(
        2, description="Retries of a request that the provider has not processed."
    )
    billable_retries: Annotated[int, Field(ge=0, le=1)] = Field(
        0, description="Retries of a request that the provider may have processed and billed."
    )
    stream_upstream_min_tokens: Annotated[int, Field(ge=0)] = Field(
        4097, description="From this `max_tokens` on, Complete reads a stream from the provider; 0: always."
    )
    max_request_bytes: Bytes = Field(32 * MEBIBYTE, description="Largest request.")
    max_unread_bytes: Bytes = Field(
        192 * MEBIBYTE,
        description="HTTP request bodies, all together, that are being received. One address may use half of "
        "it; excess requests fail with OVERLOADED.",
    )
    max_response_bytes: Bytes = Field(16 * MEBIBYTE, description="Largest completion that is not streamed.")
    max_event_bytes: Bytes = Field(MEBIBYTE, description="Largest event of a streamed completion.")
    max_stream_bytes: Bytes = Field(32 * MEBIBYTE, description="Largest streamed completion.")
    model_list_ttl_s: Seconds = Field(300.0, description="How long the provider's model list is cached.")
    model_catalog: Literal["on", "off", "auto"] = Field(
        "auto",
        description="Merge the shipped model catalog into ListModels: on, off, or auto (only for Together's "
        "hosts and the sandbox).",
    )
    forward_user: bool = Field(
        True, description="Send the caller's `user`, which may be personal data, to the provider."
    )
    adapt_reasoning_effort: bool = Field(
        True,
        description="Replace a `reasoning_effort` that the model does not know by the one nearest to it, "
        "with a warning in the response.",
    )
    prompt_cache_affinity: Literal["on", "off", "auto"] = Field(
        "auto",
        description="Send a `prompt_cache_key` derived from the prompt with requests that have none: on, "
        "off, or auto (only for Together's hosts and the sandbox).",
    )
    alias: Aliases = Field(
        {}, description="Alias of a model, NAME=MODEL; may be repeated. A table in the TOML file."
    )
    alias_unlisted: bool = Field(
        False, description="Allow aliases of models that the catalog does not list, such as private models."
    )
    replace_retired: bool = Field(
        True,
        description="When the provider rejects a retired model, send the request to the successor that "
        "Together names.",
    )
    drain_delay_s: NonNegativeSeconds = Field(
        0.0, description="How long new calls are accepted after SIGTERM, so that load balancers notice."
    )
    drain_timeout_s: NonNegativeSeconds = Field(
        30.0, description="How long calls in flight may finish after the drain delay."
    )

    def log_format_on(self, *, terminal: bool) -> LogFormat:
        """Return the format of the log, which depends on whether standard error is a terminal."""
        if self.log_format == "auto":
            return "text" if terminal else "json"
        return self.log_format
