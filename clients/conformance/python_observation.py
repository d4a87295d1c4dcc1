"""Cases and observations of the Python actors, in the protocol of README.md."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from google.protobuf.json_format import MessageToDict, ParseDict

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_client import TogetherChatError

Response: TypeAlias = service.CompleteResponse | service.ListModelsResponse | service.GetModelResponse


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

    @classmethod
    def parse(cls, line: str) -> "Task":
        case = json.loads(line)
        deadline_ms = case.get("deadline_ms")
        return cls(
            id=case["id"],
            call=case["call"],
            request=case["request"],
            timeout_s=None if deadline_ms is None else deadline_ms / 1000,
            cancel=Cancel(**case.get("cancel", {})),
            metadata=tuple(case.get("metadata", {}).items()),
            retries=case.get("retries", True),
        )

    def complete_request(self) -> service.CompleteRequest:
        return ParseDict(dict(self.request), service.CompleteRequest())

    def list_request(self) -> service.ListModelsRequest:
        return ParseDict(dict(self.request), service.ListModelsRequest())

    def get_model_request(self) -> service.GetModelRequest:
        return ParseDict(dict(self.request), service.GetModelRequest())


@dataclass(slots=True, kw_only=True)
class Observation:
    """The observation of one call."""

    id: str
    code: str = "OK"
    events: int = 0
    response: Response | None = None
    error: TogetherChatError | None = None

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
            "message": error.message if error else "",
            "retryable": bool(error and error.retryable),
            "retry_after_ms": None if wait_s is None else round(wait_s * 1000),
            "violations": [[each.field, each.description] for each in error.violations] if error else [],
            "resource_name": error.resource_name if error else "",
            "error_metadata": dict(error.metadata) if error else {},
            "events": self.events,
            "response": None if self.response is None else MessageToDict(self.response),
        }
        return json.dumps(fields, ensure_ascii=False)


def write_observation(observation: Observation) -> None:
    sys.stdout.write(observation.line() + "\n")
    sys.stdout.flush()
