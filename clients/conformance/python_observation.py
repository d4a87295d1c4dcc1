"""Cases and observations of the Python actors, in the protocol of README.md."""

import base64
import json
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from google.protobuf.json_format import MessageToDict, ParseDict

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import usage_service_pb2 as usage
from togetherchat_client import TogetherChatError

ARGUMENTS_MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
"""The model of the call in a case about arguments."""

Response: TypeAlias = (
    service.CompleteResponse
    | service.ListModelsResponse
    | service.GetModelResponse
    | usage.QueryUsageResponse
    | usage.ListQuotasResponse
    | usage.ResetQuotaResponse
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """When to cancel a call."""

    after_events: int | None = None
    after_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A case, as an actor receives it."""

    id: str
    call: str
    request: Mapping[str, object]
    timeout_s: float | None
    cancel: Cancel
    metadata: tuple[tuple[str, str], ...]
    retries: bool
    arguments: Mapping[str, Any]

    @classmethod
    def parse(cls, line: str) -> "Task":
        case = json.loads(line)
        deadline_ms = case.get("deadline_ms")
        return cls(
            id=case["id"],
            call=case["call"],
            request=case.get("request", {}),
            timeout_s=None if deadline_ms is None else deadline_ms / 1000,
            cancel=Cancel(**case.get("cancel", {})),
            metadata=tuple(case.get("metadata", {}).items()),
            retries=case.get("retries", True),
            arguments=case.get("arguments", {}),
        )

    def connect_arguments(self, target: str) -> tuple[str, dict[str, Any]]:
        """The target and the keyword arguments of `connect` in a case about arguments."""
        names = {
            "key": "key",
            "upstream_key": "upstream_key",
            "client_timeout_s": "timeout_s",
            "max_reconnect_backoff_s": "max_reconnect_backoff_s",
        }
        given = self.arguments
        keywords = {names[name]: _number(value) for name, value in given.items() if name in names}
        return given.get("target", target), keywords

    def call_arguments(self) -> tuple[str, dict[str, Any]]:
        """The text and the keyword arguments of `complete` in a case about arguments."""
        given = self.arguments
        units = given.get("text_utf16", list(b"Hi"))
        text = struct.pack(f"<{len(units)}H", *units).decode("utf-16-le", errors="surrogatepass")
        pairs = [*map(tuple, given.get("metadata", []))]
        pairs += [(name, base64.b64decode(value)) for name, value in given.get("metadata_bytes", [])]
        keywords: dict[str, Any] = {"metadata": pairs, "request_id": given.get("request_id", "")}
        if "timeout_s" in given:
            keywords["timeout_s"] = _number(given["timeout_s"])
        return text, keywords

    def complete_request(self) -> service.CompleteRequest:
        return ParseDict(dict(self.request), service.CompleteRequest())

    def list_request(self) -> service.ListModelsRequest:
        return ParseDict(dict(self.request), service.ListModelsRequest())

    def get_model_request(self) -> service.GetModelRequest:
        return ParseDict(dict(self.request), service.GetModelRequest())

    def usage_fields(self) -> dict[str, Any]:
        """The fields of a QueryUsageRequest that are set, as arguments."""
        request = ParseDict(dict(self.request), usage.QueryUsageRequest())
        return {field.name: value for field, value in request.ListFields()}

    def list_quotas_request(self) -> usage.ListQuotasRequest:
        return ParseDict(dict(self.request), usage.ListQuotasRequest())

    def reset_quota_request(self) -> usage.ResetQuotaRequest:
        return ParseDict(dict(self.request), usage.ResetQuotaRequest())


@dataclass(slots=True, kw_only=True)
class Observation:
    """The observation of one call."""

    id: str
    code: str = "OK"
    events: int = 0
    response: Response | None = None
    error: TogetherChatError | None = None
    rejection: str = ""

    def rejected(self, error: Exception) -> None:
        self.code = "REJECTED"
        self.rejection = str(error)

    def failed(self, error: TogetherChatError) -> None:
        self.code = error.code.name
        self.error = error
        self.response = error.partial or self.response

    def line(self) -> str:
        """One line of JSON."""
        error = self.error
        wait_s = error.retry_after_s if error else None
        fields = {
            "id": self.id,
            "code": self.code,
            "reason": error.reason if error else "",
            "message": error.message if error else self.rejection,
            "hint": error.hint if error else "",
            "retryable": bool(error and error.retryable),
            "retry_after_ms": None if wait_s is None else round(wait_s * 1000),
            "violations": [[each.field, each.description] for each in error.violations] if error else [],
            "resource_name": error.resource_name if error else "",
            "error_metadata": dict(error.metadata) if error else {},
            "events": self.events,
            "response": None if self.response is None else MessageToDict(self.response),
        }
        return json.dumps(fields, ensure_ascii=False)


def _number(value: object) -> object:
    """`value`; the texts NaN and Infinity, which JSON has no numbers for, become floats."""
    return float(str(value)) if value in ("NaN", "Infinity") else value


def write_observation(observation: Observation) -> None:
    sys.stdout.write(observation.line() + "\n")
    sys.stdout.flush()
