"""What the sessions of a process share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from togetherchat_server.calls.admission import Admission
from togetherchat_server.calls.auth_throttle import AuthThrottle
from togetherchat_server.calls.credentials import CredentialCheck
from togetherchat_server.calls.tenant_policy import RequestPolicy
from togetherchat_server.calls.validation import RequestLimits
from togetherchat_server.domain.addresses import TrustedProxies
from togetherchat_server.domain.ports import Chat, ModelListing
from togetherchat_server.telemetry.call_record import Sink, Spans
from togetherchat_server.tenants.quota import TenantQuota
from togetherchat_server.tenants.quota_status import QuotaReader
from togetherchat_server.usage.report import UsageReader


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionParts:
    """What the sessions of a process share. `policy` and `quota` are None without tenants."""

    credentials: CredentialCheck
    admission: Admission
    auth_throttle: AuthThrottle
    request_limits: RequestLimits
    policy: RequestPolicy | None
    quota: TenantQuota | None
    chat: Chat
    models: ModelListing
    trusted_proxies: TrustedProxies
    call_timeout_s: float
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    usage: UsageReader | None = None
    """None without a usage ledger."""
    quotas: QuotaReader | None = None
    """None without tenants."""
    spans: Spans | None = None
    sinks: Sequence[Sink] = ()
