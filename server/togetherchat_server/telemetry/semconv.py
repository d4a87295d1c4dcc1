"""Names and attributes of the spans of calls and attempts.

Pure, without the SDK. Attribute names are those of OpenTelemetry's semantic conventions 1.45 for
RPC, HTTP and generative AI; our own begin with `togetherchat.`. Values are numbers, ids, names of
models and reasons; never the text of prompts or completions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from togetherchat_server.config.listen_address import EVERY_ADDRESS, EVERY_IPV4, ListenAddress
from togetherchat_server.domain.trace_context import CANCELLED, AttemptTrace
from togetherchat_server.telemetry.call_record import CallRecord

Value = str | int | float | bool | Sequence[str]
Attributes = dict[str, Value]

TEXT_CHARACTERS_MAX: Final = 256
ATTRIBUTE_MAX: Final = 2**63 - 1
"""OTLP has signed integers. A seed is unsigned: one that does not fit would fail the export of the span."""

ERROR_CODES: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""gRPC codes that the conventions count as errors of the server; other codes are the caller's."""
HTTP_ROUTES: Final[Mapping[str, tuple[str, str]]] = {
    "chat.completions": ("POST", "/v1/chat/completions"),
    "models.list": ("GET", "/v1/models"),
    "models.retrieve": ("GET", "/v1/models/{id}"),
}
PARAMETERS: Final[Mapping[str, tuple[str, type[int] | type[float]]]] = {
    "max_tokens": ("gen_ai.request.max_tokens", int),
    "temperature": ("gen_ai.request.temperature", float),
    "top_p": ("gen_ai.request.top_p", float),
    "top_k": ("gen_ai.request.top_k", float),
    "presence_penalty": ("gen_ai.request.presence_penalty", float),
    "frequency_penalty": ("gen_ai.request.frequency_penalty", float),
    "seed": ("gen_ai.request.seed", int),
    "n": ("gen_ai.request.choice.count", int),
}
USAGE: Final[Mapping[str, str]] = {
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "completion_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAttributes:
    """Attributes that every attempt shares: the provider's address."""

    base_url: str
    attributes: Mapping[str, Value]

    @classmethod
    def of(cls, base_url: str) -> "ProviderAttributes":
        parts = urlsplit(base_url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return cls(
            base_url=base_url.rstrip("/"),
            attributes={"server.address": parts.hostname or "", "server.port": port},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerAttributes:
    """Attributes that every call shares: the listeners' addresses, from our settings and not from callers."""

    grpc: Mapping[str, Value]
    http: Mapping[str, Value]

    @classmethod
    def of(cls, *, grpc: str, http: str | None, tls: bool, hostname: str) -> "ListenerAttributes":
        """Make attributes from the listen addresses; a wildcard address is replaced by the hostname."""
        return cls(
            grpc=_server_address(grpc, hostname),
            http={"url.scheme": "https" if tls else "http", **_server_address(http, hostname)},
        )


def call_attributes(record: CallRecord, listeners: ListenerAttributes) -> Attributes:
    """Return the attributes of a call's SERVER span. Only attempts have tokens, so that sums are right."""
    rpc = record.protocol == "grpc"
    failed = record.code in ERROR_CODES if rpc else record.code.startswith("5")
    attributes: Attributes = (
        {**listeners.grpc, **_rpc_attributes(record)}
        if rpc
        else {**listeners.http, **_http_attributes(record)}
    )
    attributes["togetherchat.request_id"] = record.id
    attributes["togetherchat.attempts"] = record.attempts
    attributes["togetherchat.queued_s"] = record.queued_s
    if failed:
        attributes["error.type"] = record.reason
    for name, value in (
        ("client.address", record.client_address),
        ("togetherchat.reason", record.reason),
        ("togetherchat.model", _text(record.model)),
        ("togetherchat.model_requested", _text(record.model_requested)),
        ("togetherchat.cost_nano_usd", record.cost_nano_usd),
        ("togetherchat.first_token_s", record.first_token_s),
    ):
        if value is not None and value != "":
            attributes[name] = value
    return attributes


def attempt_attributes(
    attempt: AttemptTrace, number: int, provider: ProviderAttributes, record: CallRecord
) -> Attributes:
    """Return the attributes of an attempt's CLIENT span; `number` counts from 0."""
    attributes: Attributes = {
        **provider.attributes,
        "http.request.method": attempt.http_method,
        "url.full": f"{provider.base_url}/{attempt.path}",
    }
    if number:
        attributes["http.request.resend_count"] = number
    if attempt.http_status is not None:
        attributes["http.response.status_code"] = attempt.http_status
    failure = attempt.failure if attempt.ended_s is not None else CANCELLED
    if failure:
        # The call's reason says why the attempt was cancelled.
        attributes["error.type"] = (record.reason or CANCELLED) if failure == CANCELLED else failure
    if attempt.model:
        attributes.update(_gen_ai_attributes(attempt))
    return attributes


def call_name(record: CallRecord) -> str:
    return (
        record.method.removeprefix("/")
        if record.protocol == "grpc"
        else " ".join(HTTP_ROUTES.get(record.method, ()))
    )


def attempt_name(attempt: AttemptTrace) -> str:
    if attempt.model:
        return f"chat {_text(attempt.model)}"
    return f"{attempt.http_method} {attempt.path}"


def _server_address(address: str | None, hostname: str) -> Mapping[str, Value]:
    if address is None:
        return {}
    where = ListenAddress.parse(address)
    if where.path:
        return {"server.address": where.path}
    name = hostname if where.host in {EVERY_IPV4, EVERY_ADDRESS} else where.host
    # With port 0 the system chooses a port later.
    return {"server.address": name, "server.port": where.port} if where.port else {"server.address": name}


def _rpc_attributes(record: CallRecord) -> Attributes:
    return {
        "rpc.system.name": "grpc",
        "rpc.method": record.method.removeprefix("/"),
        "rpc.response.status_code": record.code,
    }


def _http_attributes(record: CallRecord) -> Attributes:
    method, route = HTTP_ROUTES.get(record.method, ("_OTHER", record.method))
    attributes: Attributes = {"http.request.method": method, "http.route": route}
    # OK is a completed response. A call that failed has its status as code.
    attributes["http.response.status_code"] = 200 if record.code == "OK" else int(record.code)
    return attributes


def _gen_ai_attributes(attempt: AttemptTrace) -> Attributes:
    attributes: Attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": attempt.upstream,
        "gen_ai.request.model": _text(attempt.model),
        "gen_ai.request.stream": attempt.streamed,
    }
    for name, value in attempt.parameters.items():
        attribute, convert = PARAMETERS[name]
        if value <= ATTRIBUTE_MAX:
            attributes[attribute] = convert(value)
    for name, count in attempt.usage.items():
        attributes[USAGE[name]] = count
    if attempt.response_id:
        attributes["gen_ai.response.id"] = _text(attempt.response_id)
    if attempt.response_model:
        attributes["gen_ai.response.model"] = _text(attempt.response_model)
    if attempt.finish_reasons:
        attributes["gen_ai.response.finish_reasons"] = attempt.finish_reasons
    if attempt.first_event_s is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = attempt.first_event_s - attempt.started_s
    return attributes


def _text(text: str) -> str:
    return text[:TEXT_CHARACTERS_MAX]
