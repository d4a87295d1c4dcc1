"""What spans of calls and attempts are named and say.

Pure. The names of attributes are those of OpenTelemetry's semantic conventions 1.45 for RPC, HTTP
and generative AI; those that are ours begin with `togetherchat.`. Knows no SDK, and of what
was said only numbers, ids, names of models and reasons.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from togetherchat_server.domain.trace_context import CANCELLED, AttemptTrace
from togetherchat_server.telemetry.call_record import CallRecord

Value = str | int | float | bool | Sequence[str]
Attributes = dict[str, Value]

TEXT_CHARACTERS_MAX: Final = 256

# What the conventions call an error of the server; other codes are the caller's.
ERROR_CODES: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
EVERY_HOST: Final = frozenset({"0.0.0.0", "::", "[::]"})
DOOR: Final[Mapping[str, tuple[str, str]]] = {
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
    """What is the same in every attempt: where the provider is."""

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
    """What is the same in every call: where callers come in. By our own settings, not by what they say."""

    grpc: Mapping[str, Value]
    http: Mapping[str, Value]

    @classmethod
    def of(cls, *, grpc: str, http: str | None, tls: bool, machine: str) -> "ListenerAttributes":
        """From the addresses that are listened at; one that takes all of a machine's goes by its name."""
        return cls(
            grpc=_local(grpc, machine),
            http={"url.scheme": "https" if tls else "http", **_local(http, machine)},
        )


def call_attributes(record: CallRecord, doors: ListenerAttributes) -> Attributes:
    """Of the span of a call, `SERVER`. Tokens are with the attempts, so that a sum counts them once."""
    rpc = record.protocol == "grpc"
    failed = record.code in ERROR_CODES if rpc else record.code.startswith("5")
    told: Attributes = (
        {**doors.grpc, **_rpc_attributes(record)} if rpc else {**doors.http, **_http_attributes(record)}
    )
    told["togetherchat.request_id"] = record.id
    told["togetherchat.attempts"] = record.attempts
    told["togetherchat.queued_s"] = record.queued_s
    if failed:
        told["error.type"] = record.reason
    for name, value in (
        ("togetherchat.reason", record.reason),
        ("togetherchat.model", _text(record.model)),
        ("togetherchat.model_asked", _text(record.model_asked)),
        ("togetherchat.cost_nano_usd", record.cost_nano_usd),
        ("togetherchat.first_token_s", record.first_token_s),
    ):
        if value is not None and value != "":
            told[name] = value
    return told


def attempt_attributes(
    attempt: AttemptTrace, number: int, place: ProviderAttributes, record: CallRecord
) -> Attributes:
    """Of the span of an attempt, `CLIENT`; `number` counts from 0."""
    told: Attributes = {
        **place.attributes,
        "http.request.method": attempt.http_method,
        "url.full": f"{place.base_url}/{attempt.path}",
    }
    if number:
        told["http.request.resend_count"] = number
    if attempt.http_status is not None:
        told["http.response.status_code"] = attempt.http_status
    failure = attempt.failure if attempt.ended_s is not None else CANCELLED
    if failure:
        # Why it was given up is known of the call.
        told["error.type"] = (record.reason or CANCELLED) if failure == CANCELLED else failure
    if attempt.model:
        told.update(_generative(attempt))
    return told


def call_name(record: CallRecord) -> str:
    return (
        record.method.removeprefix("/")
        if record.protocol == "grpc"
        else " ".join(DOOR.get(record.method, ()))
    )


def attempt_name(attempt: AttemptTrace) -> str:
    if attempt.model:
        return f"chat {_text(attempt.model)}"
    return f"{attempt.http_method} {attempt.path}"


def _local(address: str | None, machine: str) -> Mapping[str, Value]:
    if address is None:
        return {}
    host, _, port = address.rpartition(":")
    name = machine if host in EVERY_HOST else host.strip("[]")
    # Port 0 is one that the system chooses, later.
    return {"server.address": name, "server.port": int(port)} if int(port) else {"server.address": name}


def _rpc_attributes(record: CallRecord) -> Attributes:
    return {
        "rpc.system.name": "grpc",
        "rpc.method": record.method.removeprefix("/"),
        "rpc.response.status_code": record.code,
    }


def _http_attributes(record: CallRecord) -> Attributes:
    method, route = DOOR.get(record.method, ("_OTHER", record.method))
    told: Attributes = {"http.request.method": method, "http.route": route}
    # An answer that was given in full; a status that was never sent is none.
    told["http.response.status_code"] = 200 if record.code == "OK" else int(record.code)
    return told


def _generative(attempt: AttemptTrace) -> Attributes:
    told: Attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": attempt.upstream,
        "gen_ai.request.model": _text(attempt.model),
        "gen_ai.request.stream": attempt.streamed,
    }
    for name, value in attempt.parameters.items():
        attribute, form = PARAMETERS[name]
        told[attribute] = form(value)
    for name, count in attempt.usage.items():
        told[USAGE[name]] = count
    if attempt.response_id:
        told["gen_ai.response.id"] = _text(attempt.response_id)
    if attempt.response_model:
        told["gen_ai.response.model"] = _text(attempt.response_model)
    if attempt.finish_reasons:
        told["gen_ai.response.finish_reasons"] = attempt.finish_reasons
    if attempt.first_event_s is not None:
        told["gen_ai.response.time_to_first_chunk"] = attempt.first_event_s - attempt.started_s
    return told


def _text(text: str) -> str:
    return text[:TEXT_CHARACTERS_MAX]
