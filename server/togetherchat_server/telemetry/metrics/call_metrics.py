"""The sink that counts finished calls: a dozen additions in dictionaries at the end of every call.

Runs on the loop that serves calls; `bench/observe.py` measures its cost.
"""

from collections.abc import Callable, Container
from typing import Final, final

from togetherchat_server.domain.reasons import Blame, Reason
from togetherchat_server.telemetry.call_record import CallRecord
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.cardinality import METHODS_MAX, NONE, TENANTS_MAX, LabelLimiter
from togetherchat_server.telemetry.metrics.store import MetricStore

REJECTED_REASONS: Final = frozenset(
    reason for reason in Reason if reason.row.retryable and reason.row.blame is not Blame.PROVIDER
)
"""The rejections of this service itself, which pass with time: capacity, quota, drain."""
PROVIDER_REASONS: Final = frozenset(reason for reason in Reason if reason.row.blame is Blame.PROVIDER)
STREAM_MESSAGES_MIN: Final = 3
"""A unary completion is one message; the shortest stream is a start and an end."""


@final
class CallMetrics:
    """Counts finished calls in a store.

    Args:
        store: where calls are counted.
        models: the models that appear by name; others are `other`.
        wall_clock: gives the time at which the provider's limits arrived.
    """

    def __init__(
        self, store: MetricStore, *, models: Container[str], wall_clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._wall_clock = wall_clock
        self._model = LabelLimiter(models)
        self._tenant = LabelLimiter(unlisted_max=TENANTS_MAX)
        self._method = LabelLimiter(unlisted_max=METHODS_MAX)
        self.rate_limits: dict[str, tuple[float, tuple[tuple[str, str], ...]]] = {}
        """By model: when the provider last sent its rate limits, and the headers. Parsed at a scrape."""

    def __call__(self, record: CallRecord) -> None:
        count = self._store.count
        model, tenant, method = (
            self._model(record.model),
            self._tenant(record.tenant),
            self._method(record.method),
        )
        code = record.code
        count((names.CALLS, record.protocol, method, code, record.reason or NONE))
        count((names.TENANT_CALLS, tenant, model, code))
        if record.attempts:
            count((names.UPSTREAM_ATTEMPTS, record.upstream or NONE, model), record.attempts)
            self._count_usage(record, tenant, model)
            if not record.reason:
                count((names.UPSTREAM_CALLS, "ok"))
        if record.deltas and record.messages_sent >= STREAM_MESSAGES_MIN:
            count((names.STREAM_DELTAS,), record.deltas)
            count((names.STREAM_MESSAGES,), record.messages_sent)
        self._time(record, method, model)
        if record.reason or record.attempts > 1 or record.previous_attempts:
            self._count_failure(record, model)
        if record.rate_limits and not record.caller_key:
            self.rate_limits[model] = (self._wall_clock(), record.rate_limits)

    def _count_usage(self, record: CallRecord, tenant: str, model: str) -> None:
        count = self._store.count
        if record.prompt_tokens:
            count((names.TOKENS, tenant, model, "input"), record.prompt_tokens)
        if record.completion_tokens:
            count((names.TOKENS, tenant, model, "output"), record.completion_tokens)
        if record.cached_tokens is not None and record.prompt_tokens:
            hits = min(record.cached_tokens, record.prompt_tokens)
            count((names.PROMPT_CACHE_TOKENS, model, "hit"), hits)
            count((names.PROMPT_CACHE_TOKENS, model, "miss"), record.prompt_tokens - hits)
        if record.cost_nano_usd:
            count((names.COST_USD, tenant, model), record.cost_nano_usd)
        if record.usage_estimated:
            count((names.USAGE_ESTIMATED_CALLS,))

    def _time(self, record: CallRecord, method: str, model: str) -> None:
        observe, duration_s, first_s = self._store.observe, record.duration_s, record.first_token_s
        outcome = "error" if record.reason else "ok"
        observe((names.CALL_DURATION, record.protocol, method, model, outcome), duration_s)
        if record.queued_s:
            observe((names.CALL_QUEUE_WAIT,), record.queued_s)
        if first_s is None:
            return
        observe((names.TIME_TO_FIRST_TOKEN, method, model), first_s)
        tokens = record.completion_tokens or 0
        if tokens > 1 and record.messages_sent >= STREAM_MESSAGES_MIN and not record.reason:
            observe((names.TIME_PER_OUTPUT_TOKEN, model), (duration_s - first_s) / (tokens - 1))

    def _count_failure(self, record: CallRecord, model: str) -> None:
        """Count a failure and retries, which most calls do not have."""
        count = self._store.count
        if record.reason in REJECTED_REASONS:
            count((names.ADMISSION_REJECTED, record.reason))
        if record.reason in PROVIDER_REASONS:
            count((names.UPSTREAM_CALLS, "error" if record.attempts else "throttled"))
        if record.attempts > 1:
            count((names.UPSTREAM_RETRIES, record.upstream or NONE, model), record.attempts - 1)
        if record.previous_attempts:
            count((names.CALLER_RETRIES,))
