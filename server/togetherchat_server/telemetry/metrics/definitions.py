"""Every metric of the service: its name, kind, labels and help text.

The documentation, the dashboard, the alerts and the exported page are tested against this table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Key = tuple[str, ...]
"""Identifies one series: the metric's name, then the values of its labels in the order of its definition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDefinition:
    """One metric.

    Attributes:
        bounds: upper, inclusive bounds of a histogram's buckets.
        merge: how the gauges of several processes become one.
        scale: stored numbers are multiplied by this when they are exported.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    merge: Literal["sum", "max", "min"] = "sum"
    scale: float = 1


CALLS: Final = "togetherchat_calls_total"
TENANT_CALLS: Final = "togetherchat_tenant_calls_total"
ADMISSION_REJECTED: Final = "togetherchat_admission_rejected_total"
GRPC_CALLS_STARTED: Final = "togetherchat_grpc_calls_started_total"
GRPC_CALLS_ACCEPTED: Final = "togetherchat_grpc_calls_accepted_total"
CALLER_RETRIES: Final = "togetherchat_caller_retries_total"
TOKENS: Final = "togetherchat_tokens_total"
PROMPT_CACHE_TOKENS: Final = "togetherchat_prompt_cache_tokens_total"
COST_USD: Final = "togetherchat_cost_usd_total"
USAGE_ESTIMATED_CALLS: Final = "togetherchat_usage_estimated_calls_total"
UPSTREAM_ATTEMPTS: Final = "togetherchat_upstream_attempts_total"
UPSTREAM_RETRIES: Final = "togetherchat_upstream_retries_total"
UPSTREAM_CALLS: Final = "togetherchat_upstream_calls_total"
STREAM_DELTAS: Final = "togetherchat_stream_deltas_total"
STREAM_MESSAGES: Final = "togetherchat_stream_messages_total"
DEFERRED_READS: Final = "togetherchat_deferred_reads_total"
LOG_LINES_DROPPED: Final = "togetherchat_log_lines_dropped_total"
AUDIT_LINES_DROPPED: Final = "togetherchat_audit_lines_dropped_total"
USAGE_LEDGER_ROWS: Final = "togetherchat_usage_ledger_rows_total"
USAGE_LEDGER_LOST_ROWS: Final = "togetherchat_usage_ledger_lost_rows_total"
TRACE_SPANS: Final = "togetherchat_trace_spans_total"
WORKER_RESTARTS: Final = "togetherchat_worker_restarts_total"
PROCESS_CPU: Final = "process_cpu_seconds_total"

CALL_DURATION: Final = "togetherchat_call_duration_seconds"
TIME_TO_FIRST_TOKEN: Final = "togetherchat_time_to_first_token_seconds"  # noqa: S105  a metric name, not a password
TIME_PER_OUTPUT_TOKEN: Final = "togetherchat_time_per_output_token_seconds"  # noqa: S105  as above
CALL_QUEUE_WAIT: Final = "togetherchat_call_queue_wait_seconds"
EVENT_LOOP_LAG: Final = "togetherchat_event_loop_lag_seconds"

MERGE_INTERVAL: Final = "togetherchat_merge_interval_seconds"
CALLS_IN_FLIGHT: Final = "togetherchat_calls_in_flight"
CALLS_QUEUED: Final = "togetherchat_calls_queued"
MAX_CONCURRENT_CALLS: Final = "togetherchat_max_concurrent_calls"
ASYNCIO_TASKS: Final = "togetherchat_asyncio_tasks"
PYTHON_ALLOCATED_BLOCKS: Final = "togetherchat_python_allocated_blocks"
HTTP_CONNECTIONS: Final = "togetherchat_http_connections"
UPSTREAM_REQUESTS_IN_FLIGHT: Final = "togetherchat_upstream_requests_in_flight"
UPSTREAM_CONNECTIONS: Final = "togetherchat_upstream_connections"
UPSTREAM_CONNECTIONS_OPENED: Final = "togetherchat_upstream_connections_opened_total"
RETRY_BUDGET_LEFT: Final = "togetherchat_retry_budget_left"
ADAPTIVE_THROTTLES: Final = "togetherchat_adaptive_throttles"
UPSTREAM_RATE_LIMIT: Final = "togetherchat_upstream_rate_limit"
UPSTREAM_RATE_LIMIT_UPDATED: Final = "togetherchat_upstream_rate_limit_updated_timestamp_seconds"
QUOTA_RESERVATIONS: Final = "togetherchat_quota_reservations"
QUOTA_RESERVATIONS_LEAKED: Final = "togetherchat_quota_reservations_leaked_total"
TENANT_BUDGET_USED: Final = "togetherchat_tenant_budget_used_ratio"
USAGE_LEDGER_UP: Final = "togetherchat_usage_ledger_up"
USAGE_LEDGER_LAG: Final = "togetherchat_usage_ledger_lag_seconds"
USAGE_LEDGER_SPILLED_ROWS: Final = "togetherchat_usage_ledger_spilled_rows"
REDIS_UP: Final = "togetherchat_redis_up"
FILE_STALE: Final = "togetherchat_file_stale"
JWKS_UP: Final = "togetherchat_jwks_up"
API_KEY_NOT_AFTER: Final = "togetherchat_api_key_not_after_timestamp_seconds"
TLS_CERTIFICATE_NOT_AFTER: Final = "togetherchat_tls_certificate_not_after_timestamp_seconds"
READY: Final = "togetherchat_ready"
WORKERS: Final = "togetherchat_workers"
BUILD_INFO: Final = "togetherchat_build_info"
PROCESS_RESIDENT_MEMORY: Final = "process_resident_memory_bytes"
PROCESS_VIRTUAL_MEMORY: Final = "process_virtual_memory_bytes"
PROCESS_OPEN_FDS: Final = "process_open_fds"
PROCESS_MAX_FDS: Final = "process_max_fds"
PROCESS_START_TIME: Final = "process_start_time_seconds"

_CALL_BOUNDS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
    2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
)  # fmt: skip
_FIRST_TOKEN_BOUNDS = (
    0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75,
    1.0, 1.5, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0,
)  # fmt: skip
_OUTPUT_TOKEN_BOUNDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015,
    0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 1.0,
)  # fmt: skip
_WAIT_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


def _counter(name: str, text: str, *labels: str, scale: float = 1) -> MetricDefinition:
    return MetricDefinition(name=name, kind="counter", help=text, labels=labels, scale=scale)


def _gauge(
    name: str, text: str, *labels: str, merge: Literal["sum", "max", "min"] = "sum"
) -> MetricDefinition:
    return MetricDefinition(name=name, kind="gauge", help=text, labels=labels, merge=merge)


def _histogram(name: str, text: str, *labels: str, bounds: tuple[float, ...]) -> MetricDefinition:
    return MetricDefinition(name=name, kind="histogram", help=text, labels=labels, bounds=bounds)


_ALL: Final[tuple[MetricDefinition, ...]] = (
    _counter(
        CALLS,
        "Calls that ended, by the status sent to the caller and the failure's reason, or `none`.",
        "protocol",
        "method",
        "code",
        "reason",
    ),
    _counter(TENANT_CALLS, "The same calls, by tenant and requested model.", "tenant", "model", "code"),
    _counter(
        ADMISSION_REJECTED,
        "Calls rejected for a cause that passes: OVERLOADED, CALLER_QUOTA, DRAINING, "
        "USAGE_UNAVAILABLE or AUTHENTICATION_UNAVAILABLE.",
        "reason",
    ),
    _counter(
        GRPC_CALLS_STARTED,
        "Calls on the gRPC listener as gRPC's core counts them, health checks included.",
    ),
    _counter(
        GRPC_CALLS_ACCEPTED,
        "The same calls, once the event loop accepted them. The others wait, were cancelled by their callers "
        "or were dropped by gRPC's core because too many waited.",
    ),
    _counter(CALLER_RETRIES, "Calls that their caller declared to be a retry of its own."),
    _counter(
        TOKENS,
        "Tokens of prompts (`input`) and of completions (`output`), incomplete ones included.",
        "tenant",
        "model",
        "kind",
    ),
    _counter(
        PROMPT_CACHE_TOKENS,
        "Tokens of prompts that the provider read from its cache (`hit`) or not (`miss`), if it counts them.",
        "model",
        "result",
    ),
    _counter(
        COST_USD,
        "Cost of completions in US dollars at the model's price; 0 where no price is known.",
        "tenant",
        "model",
        scale=1e-9,
    ),
    _counter(
        USAGE_ESTIMATED_CALLS,
        "Calls whose tokens are estimated from the deltas, because the provider sent no usage.",
    ),
    _counter(UPSTREAM_ATTEMPTS, "Requests sent to the provider for calls.", "upstream", "model"),
    _counter(
        UPSTREAM_CONNECTIONS_OPENED, "Connections opened to the provider, their TLS handshake included."
    ),
    _counter(
        UPSTREAM_RETRIES,
        "Attempts after a call's first: retries, fallbacks to another model, and streams for models that are "
        "only streamed.",
        "upstream",
        "model",
    ),
    _counter(
        UPSTREAM_CALLS,
        "Calls by the provider's part in them: `ok`, `error` for a failure of the provider, or `throttled`: "
        "failed without an attempt, because the provider was rejecting requests.",
        "outcome",
    ),
    _counter(
        STREAM_DELTAS,
        "Deltas that the provider sent in streams that ended; per message, how many deltas were merged.",
    ),
    _counter(STREAM_MESSAGES, "Messages sent to the callers of these streams."),
    _counter(DEFERRED_READS, "Reads of streams that were deferred, so that deltas merge near saturation."),
    _counter(LOG_LINES_DROPPED, "Log lines dropped because standard error was not read fast enough."),
    _counter(
        AUDIT_LINES_DROPPED,
        "Lines of the audit log dropped because they could not be written; with --audit-log only.",
    ),
    _counter(
        QUOTA_RESERVATIONS_LEAKED,
        "Reservations of attempts that were older than a call can be, and were settled in full: a defect.",
    ),
    _counter(USAGE_LEDGER_ROWS, "Rows written to the usage ledger; with --usage-database only."),
    _counter(
        USAGE_LEDGER_LOST_ROWS,
        "Calls without a row in the usage ledger: no room to wait (`full`), lost with a `killed` process, "
        "`rejected` by the database, or in a `damaged` file.",
        "cause",
    ),
    _counter(
        TRACE_SPANS,
        "Spans of traced calls: `made`, `exported` to the collector, or `lost` because it rejected them.",
        "state",
    ),
    _counter(WORKER_RESTARTS, "Workers that ended unexpectedly and were started again."),
    _counter(PROCESS_CPU, "User and system CPU time in seconds; with workers, the sum over them."),
    _histogram(
        CALL_DURATION,
        "Time from a call's arrival to its end; outcome is `ok` or `error`.",
        "protocol",
        "method",
        "model",
        "outcome",
        bounds=_CALL_BOUNDS,
    ),
    _histogram(
        TIME_TO_FIRST_TOKEN,
        "Time from a call's arrival to the first delta of its completion.",
        "method",
        "model",
        bounds=_FIRST_TOKEN_BOUNDS,
    ),
    _histogram(
        TIME_PER_OUTPUT_TOKEN,
        "Mean time per token after the first, one observation per completed stream: (end - first token) "
        "/ (tokens - 1).",
        "model",
        bounds=_OUTPUT_TOKEN_BOUNDS,
    ),
    _histogram(CALL_QUEUE_WAIT, "Time that queued calls spent in the admission queue.", bounds=_WAIT_BOUNDS),
    _histogram(
        EVENT_LOOP_LAG,
        "Delay of a timer on the event loop, measured four times a second in each worker.",
        bounds=_WAIT_BOUNDS,
    ),
    _gauge(
        MERGE_INTERVAL,
        "How long reads of streams are deferred now, near saturation; with workers, the longest.",
        merge="max",
    ),
    _gauge(CALLS_IN_FLIGHT, "Calls that hold a permit."),
    _gauge(CALLS_QUEUED, "Calls that wait for a permit."),
    _gauge(MAX_CONCURRENT_CALLS, "Permits: --max-concurrent-calls times the reporting workers."),
    _gauge(ASYNCIO_TASKS, "Tasks of the event loops."),
    _gauge(PYTHON_ALLOCATED_BLOCKS, "Memory blocks allocated by Python."),
    _gauge(HTTP_CONNECTIONS, "Open connections of the HTTP listener."),
    _gauge(UPSTREAM_REQUESTS_IN_FLIGHT, "Requests to the provider in flight."),
    _gauge(
        UPSTREAM_CONNECTIONS,
        "Connections to the provider: `active` with a request, or `idle` in the pool.",
        "state",
    ),
    _gauge(RETRY_BUDGET_LEFT, "Retries allowed now. At 0, failures are returned without a retry."),
    _gauge(
        ADAPTIVE_THROTTLES,
        "Pairs of upstream key and model that are throttled: in `backoff` until the wait requested by "
        "the provider is over, or `rejecting` a fraction of the requests.",
        "state",
    ),
    _gauge(
        UPSTREAM_RATE_LIMIT,
        "The provider's latest rate limits for the service's own key, by header name.",
        "model",
        "limit",
        merge="max",
    ),
    _gauge(
        UPSTREAM_RATE_LIMIT_UPDATED,
        "When the provider last sent its rate limits, in seconds since 1970.",
        "model",
        merge="max",
    ),
    _gauge(QUOTA_RESERVATIONS, "Attempts in flight that have reserved a tenant's tokens or money."),
    _gauge(
        TENANT_BUDGET_USED,
        "Part of a tenant's budget for the `day` or `month` that was spent or reserved at its last attempt.",
        "tenant",
        "period",
        merge="max",
    ),
    _gauge(
        USAGE_LEDGER_UP,
        "1 while the database of --usage-database takes rows, else 0: rows then wait in files.",
        merge="min",
    ),
    _gauge(
        USAGE_LEDGER_LAG,
        "Age of the oldest row that is not in the usage ledger yet; about a second is normal.",
        merge="max",
    ),
    _gauge(
        USAGE_LEDGER_SPILLED_ROWS,
        "Rows in files that wait for the usage ledger's database; those of the last second are normal.",
    ),
    _gauge(
        REDIS_UP,
        "1 while the Redis of --redis-url answers, else 0: quotas are then counted by each replica alone.",
        merge="min",
    ),
    _gauge(
        FILE_STALE,
        "1 while the file of a setting is missing or invalid, else 0: its last valid contents are in effect.",
        "setting",
        merge="max",
    ),
    _gauge(
        JWKS_UP,
        "1 while the keys at --jwt-jwks-url can be fetched, else 0: the last good keys are in use.",
        merge="min",
    ),
    _gauge(
        API_KEY_NOT_AFTER,
        "Earliest expiry of the API keys that were used within a day, in seconds since 1970; +Inf if none "
        "expires.",
        merge="min",
    ),
    _gauge(
        TLS_CERTIFICATE_NOT_AFTER, "Expiry of the served TLS certificate, in seconds since 1970.", merge="min"
    ),
    _gauge(READY, "1 while the service accepts calls, as /readyz does, else 0.", merge="max"),
    _gauge(WORKERS, "Worker processes by state; with --workers only.", "state"),
    _gauge(BUILD_INFO, "Always 1; the labels name the running version.", "version", "python", merge="max"),
    _gauge(PROCESS_RESIDENT_MEMORY, "Resident memory in bytes; with workers, the sum over them."),
    _gauge(PROCESS_VIRTUAL_MEMORY, "Virtual memory in bytes; with workers, the sum over them."),
    _gauge(
        PROCESS_OPEN_FDS, "Open file descriptors; with workers, of the worker with the most.", merge="max"
    ),
    _gauge(PROCESS_MAX_FDS, "Limit on open file descriptors of one process.", merge="min"),
    _gauge(
        PROCESS_START_TIME,
        "Start time of the process in seconds since 1970; with workers, of the supervisor.",
        merge="min",
    ),
)

DEFINITIONS: Final[Mapping[str, MetricDefinition]] = {definition.name: definition for definition in _ALL}
