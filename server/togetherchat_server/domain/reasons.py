"""The reasons for which a call can fail, with the facts about each, and the exception that carries one.

The list of reasons is closed and belongs to no protocol. Every set of reasons in the service is derived
from the table in this module. A frontend adds its statuses (`frontends/grpc/status.py`,
`frontends/http/openai/errors.py`), and a provider maps its responses to reasons
(`providers/together/errors.py`). `clients/reasons.py` generates the lists of the clients.
"""

import enum
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Final, final

TEXT_CHARACTERS_MAX = 256


@final
class Reason(enum.StrEnum):
    """Why a call failed. The clients and the README have the docstring of each reason."""

    @property
    def row(self) -> "Row":
        """The facts about the reason."""
        return TABLE[self]

    INVALID_REQUEST = "INVALID_REQUEST"
    """The request breaks a rule of the contract; the details list every violation."""
    REQUEST_TOO_LARGE = "REQUEST_TOO_LARGE"
    """The request is larger than the service or the provider accepts."""
    CONTEXT_LENGTH_EXCEEDED = "CONTEXT_LENGTH_EXCEEDED"
    """The prompt and `max_tokens` exceed the model's context length."""
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    """The provider does not serve this model, or not with this key."""
    UPSTREAM_INVALID_REQUEST = "UPSTREAM_INVALID_REQUEST"
    """The provider does not accept the request (400, 422)."""

    MISSING_CREDENTIALS = "MISSING_CREDENTIALS"
    """The call carries no key, and the service requires one."""
    INVALID_CREDENTIALS = "INVALID_CREDENTIALS"
    """The key of the call is malformed, unknown, revoked or expired."""
    CALLER_KEY_REJECTED = "CALLER_KEY_REJECTED"
    """The provider rejected the key that came with the call (401)."""
    MODEL_NOT_ALLOWED = "MODEL_NOT_ALLOWED"
    """The caller may not use this model."""
    CALLER_NOT_PERMITTED = "CALLER_NOT_PERMITTED"
    """The caller's credential, its address or its tenant does not permit the call."""
    CALLER_QUOTA = "CALLER_QUOTA"
    """A limit of the service on this caller is reached."""
    CALLER_DEADLINE = "CALLER_DEADLINE"
    """The caller's deadline passed before the response was complete."""
    CALLER_CANCELLED = "CALLER_CANCELLED"
    """The caller cancelled the call or disconnected."""
    CALLER_STALLED = "CALLER_STALLED"
    """The caller sent or read nothing for too long."""

    SERVICE_KEY_REJECTED = "SERVICE_KEY_REJECTED"
    """The provider rejected the service's key (401); the operator must correct it."""
    SPEND_LIMIT_REACHED = "SPEND_LIMIT_REACHED"
    """The account's spending limit at the provider is reached (402)."""
    QUOTA_EXHAUSTED = "QUOTA_EXHAUSTED"
    """The account's quota or balance at the provider is used up (429)."""
    RATE_LIMITED = "RATE_LIMITED"
    """A rate limit of the provider is reached (429)."""
    RATE_LIMITED_REQUESTS = "RATE_LIMITED_REQUESTS"
    """The provider's limit on requests is reached (429)."""
    RATE_LIMITED_TOKENS = "RATE_LIMITED_TOKENS"
    """The provider's limit on tokens is reached (429)."""
    UPSTREAM_PERMISSION_DENIED = "UPSTREAM_PERMISSION_DENIED"
    """The provider does not permit the request (403)."""

    UPSTREAM_CONNECT_FAILED = "UPSTREAM_CONNECT_FAILED"
    """The connection to the provider failed."""
    UPSTREAM_DNS_FAILED = "UPSTREAM_DNS_FAILED"
    """The provider's host name could not be resolved."""
    UPSTREAM_CONNECT_TIMEOUT = "UPSTREAM_CONNECT_TIMEOUT"
    """Connecting to the provider took too long."""
    UPSTREAM_TLS_FAILED = "UPSTREAM_TLS_FAILED"
    """The TLS handshake with the provider failed; the operator must correct it."""
    UPSTREAM_EDGE_BLOCKED = "UPSTREAM_EDGE_BLOCKED"
    """The provider's edge blocked the request (403 without JSON)."""
    UPSTREAM_EDGE_ERROR = "UPSTREAM_EDGE_ERROR"
    """The provider's edge failed (520)."""
    UPSTREAM_EDGE_UNREACHABLE = "UPSTREAM_EDGE_UNREACHABLE"
    """The provider's edge could not reach the provider (521 to 523, 525, 526, 530)."""
    UPSTREAM_BAD_GATEWAY = "UPSTREAM_BAD_GATEWAY"
    """The provider's gateway received no valid response (502)."""
    UPSTREAM_ENDPOINT_NOT_FOUND = "UPSTREAM_ENDPOINT_NOT_FOUND"
    """The provider has no endpoint at the requested URL (404): check the base URL."""

    UPSTREAM_CONFLICT = "UPSTREAM_CONFLICT"
    """The request conflicts with another one at the provider (409)."""
    UPSTREAM_CLOSED = "UPSTREAM_CLOSED"
    """The provider closed the request before it responded (499)."""
    UPSTREAM_INTERNAL = "UPSTREAM_INTERNAL"
    """The provider had an internal error (500); the work may be billed."""
    UPSTREAM_UNIMPLEMENTED = "UPSTREAM_UNIMPLEMENTED"
    """The provider does not support the request (501)."""
    UPSTREAM_OVERLOADED = "UPSTREAM_OVERLOADED"
    """The provider is overloaded (503, 529), or has rejected most of the last requests."""
    UPSTREAM_ENDPOINT_NOT_RUNNING = "UPSTREAM_ENDPOINT_NOT_RUNNING"
    """The model's dedicated endpoint is not running."""
    UPSTREAM_UNEXPECTED_STATUS = "UPSTREAM_UNEXPECTED_STATUS"
    """The provider responded with a status that no other reason covers."""
    UPSTREAM_STREAM_ERROR = "UPSTREAM_STREAM_ERROR"
    """The provider reported an error inside the stream that no other reason covers."""
    UPSTREAM_MALFORMED_RESPONSE = "UPSTREAM_MALFORMED_RESPONSE"
    """The provider's response could not be read."""
    UPSTREAM_TOO_LARGE = "UPSTREAM_TOO_LARGE"
    """The provider's response is larger than the service accepts."""
    UPSTREAM_RESET = "UPSTREAM_RESET"
    """The connection to the provider broke before it responded; the work may be billed."""
    UPSTREAM_TRUNCATED = "UPSTREAM_TRUNCATED"
    """The provider's response ended early."""

    UPSTREAM_REQUEST_TIMEOUT = "UPSTREAM_REQUEST_TIMEOUT"
    """The provider did not receive the whole request in time (408)."""
    UPSTREAM_GATEWAY_TIMEOUT = "UPSTREAM_GATEWAY_TIMEOUT"
    """The provider did not respond to its gateway in time (504, 524)."""
    FIRST_TOKEN_TIMEOUT = "FIRST_TOKEN_TIMEOUT"  # noqa: S105  a name, no password
    """The provider sent no part of the completion in time."""
    STREAM_IDLE_TIMEOUT = "STREAM_IDLE_TIMEOUT"
    """The provider stopped sending in the middle of the completion."""
    CALL_TIMEOUT = "CALL_TIMEOUT"
    """The call took longer than the service allows."""

    AUTHENTICATION_UNAVAILABLE = "AUTHENTICATION_UNAVAILABLE"
    """The service cannot check the caller's token now: the keys of its issuer are not available."""
    USAGE_UNAVAILABLE = "USAGE_UNAVAILABLE"
    """The usage ledger, or the store of quotas, does not answer now."""
    USAGE_NOT_RECORDED = "USAGE_NOT_RECORDED"
    """The service has no usage ledger, or no tenants with quotas."""
    OVERLOADED = "OVERLOADED"
    """The service has no free capacity for the call."""
    DRAINING = "DRAINING"
    """The service is stopping; another replica may serve the call."""
    INTERNAL_ERROR = "INTERNAL_ERROR"
    """The service failed unexpectedly; its log has the cause under the request id."""


@final
class Blame(enum.Enum):
    """Whose failure it is. Alerts and metrics leave out the failures of callers."""

    CALLER = "the caller's request, key, limits or deadline"
    PROVIDER = "the provider, the account there, or the way to it"
    SERVICE = "this service"


@final
class AttemptClass(enum.Enum):
    """What is known of an attempt that failed, and so whether the service may retry it."""

    NOT_SENT = "nothing reached the provider"
    DECLINED = "the provider did not do the work"
    MAY_BE_BILLED = "the work may have been done and billed"
    FINAL = "another attempt would fail again, or the call has ended"


@final
class ThrottleOutcome(enum.Enum):
    """How the adaptive throttle counts an attempt that failed."""

    ACCEPTED = "the provider works, although it did not fulfill this request"
    REJECTED = "the provider is overloaded or cannot be reached"
    HELD = "accepted; a delay that came with the error holds back further requests"
    IGNORED = "the call ended before the provider's outcome was known"


@dataclass(frozen=True, slots=True)
class Row:
    """The facts about one reason. A frontend has the statuses."""

    blame: Blame
    attempt_class: AttemptClass = AttemptClass.FINAL
    _: KW_ONLY
    retryable: bool = False
    """Whether callers are told that the same call may succeed later."""
    falls_back: bool = False
    """Whether a fallback model is tried."""
    operator_acts: bool = False
    """Whether calls keep failing until an operator acts."""
    bad_credentials: bool = False
    """Whether the auth throttle counts the failure."""
    floods: bool = False
    """Whether calls may fail as fast as they arrive. Then not each of them has a line in the log."""
    throttle: ThrottleOutcome = ThrottleOutcome.ACCEPTED
    passes_after_s: float | None = None
    """Seconds until a caller may try again what clients must not retry; None: unknown."""


CALLER, PROVIDER, SERVICE = Blame.CALLER, Blame.PROVIDER, Blame.SERVICE
NOT_SENT, DECLINED = AttemptClass.NOT_SENT, AttemptClass.DECLINED
MAY_BE_BILLED = AttemptClass.MAY_BE_BILLED
REJECTED, HELD, IGNORED = ThrottleOutcome.REJECTED, ThrottleOutcome.HELD, ThrottleOutcome.IGNORED

TABLE: Final[Mapping[Reason, Row]] = {
    Reason.INVALID_REQUEST: Row(CALLER),
    Reason.REQUEST_TOO_LARGE: Row(CALLER),
    Reason.CONTEXT_LENGTH_EXCEEDED: Row(CALLER),
    Reason.MODEL_NOT_FOUND: Row(CALLER, falls_back=True),
    Reason.UPSTREAM_INVALID_REQUEST: Row(CALLER),
    Reason.MISSING_CREDENTIALS: Row(CALLER, bad_credentials=True, floods=True),
    Reason.INVALID_CREDENTIALS: Row(CALLER, bad_credentials=True, floods=True),
    Reason.CALLER_KEY_REJECTED: Row(CALLER, bad_credentials=True, floods=True),
    Reason.MODEL_NOT_ALLOWED: Row(CALLER),
    Reason.CALLER_NOT_PERMITTED: Row(CALLER, floods=True),
    Reason.CALLER_QUOTA: Row(CALLER, retryable=True, floods=True, throttle=IGNORED),
    Reason.CALLER_DEADLINE: Row(CALLER, throttle=IGNORED),
    Reason.CALLER_CANCELLED: Row(CALLER, throttle=IGNORED),
    Reason.CALLER_STALLED: Row(CALLER, throttle=IGNORED),
    Reason.SERVICE_KEY_REJECTED: Row(PROVIDER, operator_acts=True),
    Reason.SPEND_LIMIT_REACHED: Row(PROVIDER, operator_acts=True),
    Reason.QUOTA_EXHAUSTED: Row(PROVIDER, operator_acts=True),
    Reason.RATE_LIMITED: Row(PROVIDER, DECLINED, retryable=True, falls_back=True, throttle=HELD),
    Reason.RATE_LIMITED_REQUESTS: Row(PROVIDER, DECLINED, retryable=True, falls_back=True, throttle=HELD),
    Reason.RATE_LIMITED_TOKENS: Row(PROVIDER, DECLINED, retryable=True, falls_back=True, throttle=HELD),
    Reason.UPSTREAM_PERMISSION_DENIED: Row(PROVIDER),
    Reason.UPSTREAM_CONNECT_FAILED: Row(PROVIDER, NOT_SENT, retryable=True, throttle=REJECTED),
    Reason.UPSTREAM_DNS_FAILED: Row(PROVIDER, NOT_SENT, retryable=True, throttle=REJECTED),
    Reason.UPSTREAM_CONNECT_TIMEOUT: Row(PROVIDER, NOT_SENT, retryable=True, throttle=REJECTED),
    Reason.UPSTREAM_TLS_FAILED: Row(PROVIDER, operator_acts=True, throttle=REJECTED),
    Reason.UPSTREAM_EDGE_BLOCKED: Row(PROVIDER),
    Reason.UPSTREAM_EDGE_ERROR: Row(PROVIDER, DECLINED, retryable=True, throttle=REJECTED),
    Reason.UPSTREAM_EDGE_UNREACHABLE: Row(PROVIDER, DECLINED, retryable=True, throttle=REJECTED),
    Reason.UPSTREAM_BAD_GATEWAY: Row(PROVIDER, DECLINED, retryable=True, throttle=REJECTED),
    Reason.UPSTREAM_ENDPOINT_NOT_FOUND: Row(PROVIDER),
    Reason.UPSTREAM_CONFLICT: Row(PROVIDER, DECLINED, throttle=REJECTED),
    Reason.UPSTREAM_CLOSED: Row(PROVIDER, retryable=True),
    Reason.UPSTREAM_INTERNAL: Row(PROVIDER, MAY_BE_BILLED),
    Reason.UPSTREAM_UNIMPLEMENTED: Row(PROVIDER),
    Reason.UPSTREAM_OVERLOADED: Row(PROVIDER, DECLINED, retryable=True, falls_back=True, throttle=REJECTED),
    Reason.UPSTREAM_ENDPOINT_NOT_RUNNING: Row(PROVIDER, falls_back=True, passes_after_s=60.0),
    Reason.UPSTREAM_UNEXPECTED_STATUS: Row(PROVIDER),
    Reason.UPSTREAM_STREAM_ERROR: Row(PROVIDER, retryable=True),
    Reason.UPSTREAM_MALFORMED_RESPONSE: Row(PROVIDER),
    Reason.UPSTREAM_TOO_LARGE: Row(PROVIDER),
    Reason.UPSTREAM_RESET: Row(PROVIDER, MAY_BE_BILLED, throttle=REJECTED),
    Reason.UPSTREAM_TRUNCATED: Row(PROVIDER, retryable=True),
    Reason.UPSTREAM_REQUEST_TIMEOUT: Row(PROVIDER, DECLINED, retryable=True, throttle=REJECTED),
    Reason.UPSTREAM_GATEWAY_TIMEOUT: Row(PROVIDER, throttle=REJECTED),
    Reason.FIRST_TOKEN_TIMEOUT: Row(PROVIDER, MAY_BE_BILLED, throttle=REJECTED),
    Reason.STREAM_IDLE_TIMEOUT: Row(PROVIDER),
    Reason.CALL_TIMEOUT: Row(SERVICE, throttle=IGNORED),
    Reason.AUTHENTICATION_UNAVAILABLE: Row(SERVICE, retryable=True, floods=True),
    Reason.USAGE_UNAVAILABLE: Row(SERVICE, retryable=True),
    Reason.USAGE_NOT_RECORDED: Row(CALLER),
    Reason.OVERLOADED: Row(SERVICE, retryable=True, floods=True),
    Reason.DRAINING: Row(SERVICE, retryable=True, floods=True),
    Reason.INTERNAL_ERROR: Row(SERVICE, operator_acts=True),
}

REJECTS_CREDENTIAL: Final = frozenset(
    reason for reason in Reason if reason.row.bad_credentials or reason is Reason.CALLER_NOT_PERMITTED
)
"""Reasons of calls that are rejected for what their caller presented, or lacks."""
FALLS_BACK: Final = frozenset(reason for reason in Reason if reason.row.falls_back)
"""Reasons after which a fallback model is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldViolation:
    """One invalid field of a request; `field` is a path such as `messages[2].content[0].text`."""

    field: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderErrorInfo:
    """What the provider reported about a failure, sanitised."""

    http_status: int | None = None
    error_type: str = ""
    error_code: str = ""


class ServiceError(Exception):
    """A call failed for a known reason.

    `message` is for the caller: it holds no key, no prompt, no stack, and no text from the provider
    that did not pass `sanitise`. `retry_after_s` is the delay, in seconds, that the provider or one
    of our limits requires; None if there is none. An error is as retryable as its reason's row says,
    unless `retryable` says otherwise.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        retryable: bool | None = None,
        retry_after_s: float | None = None,
        violations: tuple[FieldViolation, ...] = (),
        upstream: ProviderErrorInfo | None = None,
    ) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message
        self.retryable = reason.row.retryable if retryable is None else retryable
        self.retry_after_s = retry_after_s
        self.violations = violations
        self.upstream = upstream

    @property
    def attempt_class(self) -> AttemptClass:
        """The class of the failed attempt. It is final if the row is overruled by `retryable=False`."""
        row = self.reason.row
        return AttemptClass.FINAL if row.retryable and not self.retryable else row.attempt_class

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


def without_frames(error: ServiceError) -> ServiceError:
    """Return the error without the tracebacks of it and its causes. Call this where an error is kept.

    A traceback refers to all frames that the exception passed, with the request and the response in them.
    If one of these frames refers to the exception, only the garbage collector releases them.
    """
    chain: list[BaseException] = [error]
    for one in chain:
        one.__traceback__ = None
        links = (one.__cause__, one.__context__)
        chain += (link for link in links if link is not None and link not in chain)
    return error


def sanitise(text: str, *, characters_max: int = TEXT_CHARACTERS_MAX) -> str:
    """Make foreign text fit for a status: one line, printable, bounded."""
    printable = "".join(
        character if character.isprintable() else " " for character in text[: characters_max * 4]
    )
    line = " ".join(printable.split())
    return line if len(line) <= characters_max else line[: characters_max - 1] + "…"
