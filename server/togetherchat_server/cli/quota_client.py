"""Calls UsageService of a running service, for `togetherchat-server tenants`.

The only module of the command that imports gRPC. The client library is another package, which a server
need not have.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar, cast, final

import grpc

from togetherchat.v1 import usage_service_pb2 as usage
from togetherchat.v1.usage_service_pb2_grpc import UsageServiceStub

Result = TypeVar("Result")

REASON: Final = "x-error-reason"
NOT_REACHED: Final = "cannot be reached"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageConnection:
    """How the service is called."""

    address: str
    key: str = field(repr=False)
    """Empty: none."""
    ca_certificates: bytes | None
    """The trusted root certificates, in PEM; None for those that gRPC trusts."""
    tls: bool
    timeout_s: float


@final
class QuotaCallError(Exception):
    """A call failed. The message is one line."""


def list_quotas(connection: UsageConnection, tenants: Sequence[str]) -> Sequence[usage.Quota]:
    """Return the quotas of these tenants, or of all that the key may see. Raises QuotaCallError."""
    request = usage.ListQuotasRequest(tenants=tenants)
    return _call(
        connection, lambda stub, sent: stub.ListQuotas(request, metadata=sent, timeout=connection.timeout_s)
    ).quotas


def reset_quota(connection: UsageConnection, tenant: str) -> Sequence[usage.Quota]:
    """Reset the quotas of a tenant, and return them. Raises QuotaCallError."""
    request = usage.ResetQuotaRequest(tenant=tenant)
    return _call(
        connection, lambda stub, sent: stub.ResetQuota(request, metadata=sent, timeout=connection.timeout_s)
    ).quotas


Metadata = tuple[tuple[str, str], ...]


def _call(connection: UsageConnection, call: Callable[[UsageServiceStub, Metadata], Result]) -> Result:
    sent = (("authorization", f"Bearer {connection.key}"),) if connection.key else ()
    with _channel(connection) as channel:
        try:
            return call(UsageServiceStub(channel), sent)
        except grpc.RpcError as exc:
            raise QuotaCallError(_text(cast("grpc.Call", exc), connection.address)) from None


def _channel(connection: UsageConnection) -> grpc.Channel:
    if not connection.tls:
        # A proxy from the environment cannot reach this machine's loopback.
        return grpc.insecure_channel(connection.address, (("grpc.enable_http_proxy", 0),))
    return grpc.secure_channel(connection.address, grpc.ssl_channel_credentials(connection.ca_certificates))


def _text(error: grpc.Call, address: str) -> str:
    trailers = {name: value for name, value in error.trailing_metadata() or () if isinstance(value, str)}
    message = " ".join((error.details() or "").split())
    if REASON in trailers:
        return f"{trailers[REASON]}: {message}"
    return f"{address} {NOT_REACHED}: {error.code().name}: {message}"
