"""The sink that counts ended calls: a dozen additions in dictionaries, at the end of every call.

It runs on the loop that serves; `bench/observe.py` measures what it costs.
"""

from collections.abc import Callable, Container
from typing import Final, final

from togetherchat_server.telemetry.call_record import CallRecord
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.cardinality import METHODS_MAX, NONE, TENANTS_MAX, LabelLimiter
from togetherchat_server.telemetry.metrics.store import MetricStore

REFUSALS: Final = frozenset({"OVERLOADED", "CALLER_QUOTA", "DRAINING"})
STREAM_MESSAGES_MIN: Final = 3
"""A whole answer is one message, the shortest stream a start and an end."""


@final
class CallMetrics:
    """Counts into a tally.

    Args:
        tally: where to.
        models: the models that are named; others are `other`.
        wall_clock: when the provider told its limits.
    """

    def __init__(
        self, tally: MetricStore, *, models: Container[str], wall_clock: Callable[[], float]
    ) -> None:
        self._tally = tally
        self._wall_clock = wall_clock
        self._model = LabelLimiter(models)
        self._tenant = LabelLimiter(unlisted_max=TENANTS_MAX)
        self._method = LabelLimiter(unlisted_max=METHODS_MAX)
        self.limits_told: dict[str, tuple[float, tuple[tuple[str, str], ...]]] = {}
        """By model, when the provider told its limits and which; read when somebody asks."""

    def __call__(self, record: CallRecord) -> None:
        count = self._tally.count
        model, tenant, method = (
            self._model(record.model),
            self._tenant(record.tenant),
            self._method(record.method),
        )
        code = record.code
        count((names.CALLS, record.protocol, method, code, record.reason or NONE))
        count((names.TENANT_CALLS, tenant, model, code))
        if record.attempts:
            count((names.ATTEMPTS, record.upstream or NONE, model), record.attempts)
            self._count_usage(record, tenant, model)
        self._time(record, method, model)
        if record.reason or record.attempts > 1 or record.previous_attempts:
            self._count_trouble(record, model)
        if record.rate_limits and not record.caller_key:
            self.limits_told[model] = (self._wall_clock(), record.rate_limits)

    def _count_usage(self, record: CallRecord, tenant: str, model: str) -> None:
        count = self._tally.count
        if record.prompt_tokens:
            count((names.TOKENS, tenant, model, "input"), record.prompt_tokens)
        if record.completion_tokens:
            count((names.TOKENS, tenant, model, "output"), record.completion_tokens)
        if record.cost_nano_usd:
            count((names.COST, tenant, model), record.cost_nano_usd)
        if record.usage_estimated:
            count((names.ESTIMATED,))

    def _time(self, record: CallRecord, method: str, model: str) -> None:
        observe, duration_s, first_s = self._tally.observe, record.duration_s, record.first_token_s
        outcome = "error" if record.reason else "ok"
        observe((names.DURATION, record.protocol, method, model, outcome), duration_s)
        if record.queued_s:
            observe((names.QUEUED,), record.queued_s)
        if first_s is None:
            return
        observe((names.FIRST_TOKEN, method, model), first_s)
        tokens = record.completion_tokens or 0
        if tokens > 1 and record.messages_sent >= STREAM_MESSAGES_MIN and not record.reason:
            observe((names.INTER_TOKEN, model), (duration_s - first_s) / (tokens - 1))

    def _count_trouble(self, record: CallRecord, model: str) -> None:
        count = self._tally.count
        if record.reason in REFUSALS:
            count((names.REFUSED, record.reason))
        if record.attempts > 1:
            count((names.RETRIES, record.upstream or NONE, model), record.attempts - 1)
        if record.previous_attempts:
            count((names.CALLER_RETRIES,))
