"""Tenants as the rest of the service sees them: who calls, what they may, what they have used.

Identity comes from a key. Another proof of it, a client's certificate for example, would be another
`identity_of` here: nothing behind the gate knows how a tenant was recognised.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, final

from togetherchat_server.domain.reasons import Reason, ServiceError, Violation
from togetherchat_server.telemetry.call_record import CallRecord
from togetherchat_server.tenants.authenticator import Authenticator, Identity
from togetherchat_server.tenants.policy import TenantLimits, permits, read_limits
from togetherchat_server.tenants.quota_store import QuotaMetric, QuotaRejection, QuotaStore
from togetherchat_server.tenants.redis.leases import Lease
from togetherchat_server.tenants.reloading_file import ReloadingFile

_UNBOUND: Final = TenantLimits()


class ReplicaQuotaStore(Protocol):
    """The accounts that replicas share. What `enter` gives is given back, once."""

    async def enter(self, tenant: str, limits: TenantLimits) -> QuotaRejection | Lease | None: ...

    def leave(self, lease: Lease) -> None: ...

    def spend(self, tenant: str, tokens: int, limits: TenantLimits) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GateFiles:
    """Where keys and limits are; without a file of limits nothing binds."""

    keys: Path
    limits: Path | None


@final
class Gate:
    """The one object that fronts' callers pass, and a sink of call records: it books the tokens.

    `clock` must be one for all who share the `tally`.

    Raises:
        OSError: a file cannot be read at the start.
        ValueError: a file is wrong then.
    """

    def __init__(
        self,
        files: GateFiles,
        tally: QuotaStore,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        aliases: Mapping[str, str],
        replicas: ReplicaQuotaStore | None = None,
    ) -> None:
        self._keys = Authenticator(files.keys, clock=clock, wall_clock=wall_clock)
        self._limits = files.limits and ReloadingFile(files.limits, read_limits, clock=clock)
        self._tally = tally
        self._clock = clock
        self._aliases = aliases
        self._replicas = replicas

    def identity_of(self, key: str) -> Identity:
        """Raises ServiceError INVALID_CREDENTIALS."""
        return self._keys.identity_of(key)

    def enter(self, tenant: str) -> None:
        """Count a call in, before anything of it is read.

        Raises:
            ServiceError: CALLER_QUOTA.
        """
        limits = self._of(tenant)
        rejection = self._tally.enter(tenant, limits, self._clock())
        if rejection is not None:
            raise quota_error(tenant, rejection, limits)

    def leave(self, tenant: str) -> None:
        """Count a call out that was counted in."""
        self._tally.leave(tenant)

    @asynccontextmanager
    async def in_replicas(self, tenant: str) -> AsyncGenerator[None]:
        """Count a call in, and out at its end, where replicas share their accounts.

        Raises:
            ServiceError: CALLER_QUOTA.
        """
        if self._replicas is None:
            yield
            return
        limits = self._of(tenant)
        entered = await self._replicas.enter(tenant, limits)
        if isinstance(entered, QuotaRejection):
            raise quota_error(tenant, entered, limits)
        try:
            yield
        finally:
            if entered is not None:
                self._replicas.leave(entered)

    def permits(self, tenant: str, model: str) -> bool:
        """Whether the tenant may ask for the model with this id."""
        return not tenant or permits(self._of(tenant).models, model, self._aliases)

    def check_model(self, tenant: str, model: str) -> None:
        """Raises ServiceError MODEL_NOT_ALLOWED, which says what is allowed."""
        if not self.permits(tenant, model):
            allowed = ", ".join(self._of(tenant).models)
            raise ServiceError(
                Reason.MODEL_NOT_ALLOWED, f"tenant {tenant} may not ask for {model}, but for: {allowed}"
            )

    def output_tokens(self, tenant: str, asked: int | None, choices: int) -> int | None:
        """The `max_tokens` to ask for: what was asked, or what the tenant's bound leaves where nothing was.

        Raises:
            ServiceError: INVALID_REQUEST where more was asked for. It is not cut down in silence: the
                answer would end early, and its caller would not know why.
        """
        bound = self._of(tenant).max_output_tokens
        if not bound or (asked is not None and asked * choices <= bound):
            return asked
        each = bound // choices
        if asked is None and each:
            return each
        violation = Violation(
            field="max_tokens" if each else "n",
            description=f"must be {each or bound} at most: tenant {tenant} may have {bound} tokens of output "
            "a call, over all its choices",
        )
        raise ServiceError(
            Reason.INVALID_REQUEST, f"{violation.field} {violation.description}", violations=(violation,)
        )

    def bounds_output(self, tenant: str) -> bool:
        return self._of(tenant).max_output_tokens > 0

    def __call__(self, record: CallRecord) -> None:
        """Book what an ended call used: what it is known to have used, where it broke off."""
        tokens = (record.prompt_tokens or 0) + (record.completion_tokens or 0)
        if not (record.tenant and tokens):
            return
        limits = self._of(record.tenant)
        if limits.tokens_per_minute:
            self._tally.spend(record.tenant, tokens, limits, self._clock())
            if self._replicas is not None:
                self._replicas.spend(record.tenant, tokens, limits)

    def _of(self, tenant: str) -> TenantLimits:
        return self._limits.current().of(tenant) if self._limits else _UNBOUND


def quota_error(tenant: str, rejection: QuotaRejection, limits: TenantLimits) -> ServiceError:
    """What a caller hears of the limit that it ran into."""
    number = {
        QuotaMetric.CALLS: limits.max_concurrent_calls,
        QuotaMetric.REQUESTS: limits.requests_per_minute,
        QuotaMetric.TOKENS: limits.tokens_per_minute,
    }[rejection.metric]
    return ServiceError(
        Reason.CALLER_QUOTA,
        f"tenant {tenant} has used up its {number} {rejection.metric}",
        retry_after_s=rejection.retry_after_s,
    )
