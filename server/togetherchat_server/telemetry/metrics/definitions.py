"""Every metric that there is: its name, its kind, its labels, what it means.

A table, and nothing else. Documentation, dashboard, alerts and what is exported are checked
against it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDefinition:
    """One metric. `merge` is how gauges of several processes become one.

    What is counted is exported times `scale`; `bounds` are a histogram's, upper and inclusive.
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
REFUSED: Final = "togetherchat_admission_rejected_total"
CALLER_RETRIES: Final = "togetherchat_caller_retries_total"
TOKENS: Final = "togetherchat_tokens_total"
COST: Final = "togetherchat_cost_usd_total"
ESTIMATED: Final = "togetherchat_usage_estimated_calls_total"
ATTEMPTS: Final = "togetherchat_upstream_attempts_total"
RETRIES: Final = "togetherchat_upstream_retries_total"
LINES_DROPPED: Final = "togetherchat_log_lines_dropped_total"
SPANS: Final = "togetherchat_trace_spans_total"
RESTARTS: Final = "togetherchat_worker_restarts_total"
CPU: Final = "process_cpu_seconds_total"

DURATION: Final = "togetherchat_call_duration_seconds"
FIRST_TOKEN: Final = "togetherchat_time_to_first_token_seconds"  # noqa: S105  a name, no password
INTER_TOKEN: Final = "togetherchat_time_per_output_token_seconds"  # noqa: S105  as above
QUEUED: Final = "togetherchat_call_queue_wait_seconds"
LAG: Final = "togetherchat_event_loop_lag_seconds"

IN_FLIGHT: Final = "togetherchat_calls_in_flight"
WAITING: Final = "togetherchat_calls_queued"
PLACES: Final = "togetherchat_max_concurrent_calls"
TASKS: Final = "togetherchat_asyncio_tasks"
MEMORY_BLOCKS: Final = "togetherchat_python_allocated_blocks"
HTTP_CONNECTIONS: Final = "togetherchat_http_connections"
UPSTREAM_IN_FLIGHT: Final = "togetherchat_upstream_requests_in_flight"
UPSTREAM_CONNECTIONS: Final = "togetherchat_upstream_connections"
BUDGET: Final = "togetherchat_retry_budget_left"
BREAKER: Final = "togetherchat_adaptive_throttles"
LIMIT: Final = "togetherchat_upstream_rate_limit"
LIMIT_TOLD: Final = "togetherchat_upstream_rate_limit_updated_timestamp_seconds"
QUOTAS_APART: Final = "togetherchat_quota_redis_away"
CERTIFICATE_LEFT: Final = "togetherchat_tls_certificate_left_seconds"
READY: Final = "togetherchat_ready"
WORKERS: Final = "togetherchat_workers"
BUILD: Final = "togetherchat_build_info"
RESIDENT: Final = "process_resident_memory_bytes"
VIRTUAL: Final = "process_virtual_memory_bytes"
FILES: Final = "process_open_fds"
FILES_MAX: Final = "process_max_fds"
STARTED: Final = "process_start_time_seconds"

_CALL_BOUNDS = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
)
_FIRST_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0)
_INTER_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 1.0)
_WAIT_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

_ALL: Final[tuple[MetricDefinition, ...]] = (
    MetricDefinition(
        name=CALLS,
        kind="counter",
        labels=("protocol", "method", "code", "reason"),
        help="Ended calls, by the status that was answered and the kind of failure or `none`.",
    ),
    MetricDefinition(
        name=TENANT_CALLS,
        kind="counter",
        labels=("tenant", "model", "code"),
        help="The same calls, by whose they were and the model that was asked for.",
    ),
    MetricDefinition(
        name=REFUSED,
        kind="counter",
        labels=("reason",),
        help="Calls that were refused a place: OVERLOADED, CALLER_QUOTA or DRAINING.",
    ),
    MetricDefinition(
        name=CALLER_RETRIES,
        kind="counter",
        help="Calls that were their caller's own second attempt or a later one, as it says.",
    ),
    MetricDefinition(
        name=TOKENS,
        kind="counter",
        labels=("tenant", "model", "kind"),
        help="Tokens of prompts (`prompt`) and of answers (`completion`), broken-off answers too.",
    ),
    MetricDefinition(
        name=COST,
        kind="counter",
        labels=("tenant", "model"),
        scale=1e-9,
        help="What answers cost in US dollars, by the model's price; nothing where no price is known.",
    ),
    MetricDefinition(
        name=ESTIMATED,
        kind="counter",
        help="Calls whose tokens are counted by their pieces, since the provider told no usage.",
    ),
    MetricDefinition(
        name=ATTEMPTS,
        kind="counter",
        labels=("upstream", "model"),
        help="Requests sent to the provider for calls.",
    ),
    MetricDefinition(
        name=RETRIES,
        kind="counter",
        labels=("upstream", "model"),
        help="Those after a call's first: retries, and fallbacks to another model.",
    ),
    MetricDefinition(
        name=LINES_DROPPED,
        kind="counter",
        help="Lines of the log that were not written: nobody read fast enough.",
    ),
    MetricDefinition(
        name=SPANS,
        kind="counter",
        labels=("state",),
        help="Spans of traced calls: `made`, `exported` to the collector, or `lost` since it took none.",
    ),
    MetricDefinition(name=RESTARTS, kind="counter", help="Workers that were lost and started again."),
    MetricDefinition(
        name=CPU,
        kind="counter",
        help="CPU time used, user and system, in seconds; with workers, of them all.",
    ),
    MetricDefinition(
        name=DURATION,
        kind="histogram",
        labels=("protocol", "method", "model", "outcome"),
        bounds=_CALL_BOUNDS,
        help="From a call's arrival to its end; outcome is `ok` or `error`.",
    ),
    MetricDefinition(
        name=FIRST_TOKEN,
        kind="histogram",
        labels=("method", "model"),
        bounds=_FIRST_BOUNDS,
        help="From a call's arrival to the first piece of its answer in hand.",
    ),
    MetricDefinition(
        name=INTER_TOKEN,
        kind="histogram",
        labels=("model",),
        bounds=_INTER_BOUNDS,
        help="Mean time per token after the first, one observation for each streamed answer that came to its "
        "end: (end - first token) / (tokens - 1).",
    ),
    MetricDefinition(
        name=QUEUED,
        kind="histogram",
        bounds=_WAIT_BOUNDS,
        help="How long calls waited for a place; those that waited only.",
    ),
    MetricDefinition(
        name=LAG,
        kind="histogram",
        bounds=_WAIT_BOUNDS,
        help="How late the event loop was for a timer, four times a second and worker.",
    ),
    MetricDefinition(name=IN_FLIGHT, kind="gauge", help="Calls that have a place."),
    MetricDefinition(name=WAITING, kind="gauge", help="Calls that wait for a place."),
    MetricDefinition(
        name=PLACES,
        kind="gauge",
        help="Places for calls: --max-concurrent-calls, times the workers that report.",
    ),
    MetricDefinition(name=TASKS, kind="gauge", help="Tasks of the event loops."),
    MetricDefinition(name=MEMORY_BLOCKS, kind="gauge", help="Blocks of memory that Python holds."),
    MetricDefinition(name=HTTP_CONNECTIONS, kind="gauge", help="Connections of callers to the HTTP door."),
    MetricDefinition(
        name=UPSTREAM_IN_FLIGHT, kind="gauge", help="Requests to the provider that are not over."
    ),
    MetricDefinition(
        name=UPSTREAM_CONNECTIONS,
        kind="gauge",
        labels=("state",),
        help="Connections to the provider: `leased` by a request, or `resting` in the pool.",
    ),
    MetricDefinition(
        name=BUDGET, kind="gauge", help="Retries that may be made now. At 0 failures are answered at once."
    ),
    MetricDefinition(
        name=BREAKER,
        kind="gauge",
        labels=("state",),
        help="Pairs of upstream key and model that the breaker stands before: `held` until a wait that the "
        "provider asked for is over, or `dropping` a share of the requests.",
    ),
    MetricDefinition(
        name=LIMIT,
        kind="gauge",
        labels=("model", "limit"),
        merge="max",
        help="The provider's limits on the service's own key, the last word on each, by the header's name.",
    ),
    MetricDefinition(
        name=LIMIT_TOLD,
        kind="gauge",
        labels=("model",),
        merge="max",
        help="When the provider last told its limits, in seconds since 1970.",
    ),
    MetricDefinition(
        name=QUOTAS_APART,
        kind="gauge",
        help="Processes that count for themselves, because the Redis for the limits of all replicas is away.",
    ),
    MetricDefinition(
        name=CERTIFICATE_LEFT,
        kind="gauge",
        merge="min",
        help="Seconds until the certificate that callers are shown is no longer valid; below 0 after.",
    ),
    MetricDefinition(
        name=READY, kind="gauge", merge="max", help="1 while calls are wanted, as /readyz says, else 0."
    ),
    MetricDefinition(
        name=WORKERS, kind="gauge", labels=("state",), help="Worker processes by state, with --workers alone."
    ),
    MetricDefinition(
        name=BUILD, kind="gauge", labels=("version", "python"), merge="max", help="Always 1; what runs."
    ),
    MetricDefinition(
        name=RESIDENT, kind="gauge", help="Resident memory in bytes; with workers, of them all."
    ),
    MetricDefinition(name=VIRTUAL, kind="gauge", help="Virtual memory in bytes; with workers, of them all."),
    MetricDefinition(
        name=FILES,
        kind="gauge",
        merge="max",
        help="Open files and sockets; with workers, of the one that has the most.",
    ),
    MetricDefinition(name=FILES_MAX, kind="gauge", merge="min", help="How many one process may open."),
    MetricDefinition(
        name=STARTED,
        kind="gauge",
        merge="min",
        help="When the process began, in seconds since 1970; with workers, the supervisor.",
    ),
)

DEFINITIONS: Final[Mapping[str, MetricDefinition]] = {family.name: family for family in _ALL}
